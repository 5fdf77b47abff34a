"""Workers follow `poise.policy` on a real Kafka: two workers, an unavailable broker, a replayed run."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from integration_kit import settings_for_another_process, until
from policy_records_kit import policy_of, policy_record, put
from scripted_run import ScriptedRun

from poise.contracts import (
    Answer,
    Ask,
    Completion,
    Draw,
    Generate,
    Message,
    Passage,
    Passages,
    Policy,
    Retrieve,
    RunRecord,
)
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import POLICY, RECORDS
from poise.errors import UnavailableError
from poise.kafka import log_reader, topic_setup
from poise.kafka.log_stream import LogStream
from poise.kafka.transactions import ProducerRecord, TransactionalProducer
from poise.redis.client import RedisClient
from poise.redis.journal import Journal
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise.workflows.run import Run
from poise_services.orchestration import active_policy as module
from poise_services.orchestration.active_policy import PolicyFollower, apply_weights, follow_policy
from poise_services.orchestration.answer import AnswerWorkflow
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.draw_secret import load_secret
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

SECRET = bytes(32)
pytestmark = pytest.mark.integration

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
ASK = Ask(question="Who lit the lamp of Harrow Point?", cache="no-store")
FOUND = Passages(passages=(Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=1.0),), epoch="e1.AAAA")


@pytest.fixture
def name() -> str:
    """Return a unique policy name."""
    return f"policy-{uuid4().hex[:8]}"


def two_variants(name: str) -> OrchestrationSettings:
    """Return settings of two variants; the first is drawn until a policy is set."""
    variants = [{"name": "a"}, {"name": "b", "weight": 0}]
    return OrchestrationSettings.model_validate({"policy": name, "variants": variants})


@dataclass
class OrchestrationWorker:
    """An orchestration worker and the messages that it handled."""

    policy_follower: PolicyFollower
    runs: set[str] = field(default_factory=set)


@asynccontextmanager
async def orchestrating(settings: MeshSettings, own: OrchestrationSettings) -> AsyncIterator[OrchestrationWorker]:
    """Run an orchestration worker until it follows the policy; stop it as a signal would."""
    secret = load_secret(own, settings)
    async with (
        WorkerRuntime(settings, tier="orchestration") as mesh,
        follow_policy(mesh, own, secret) as policy_follower,
    ):
        worker = OrchestrationWorker(policy_follower)
        answer = handlers(own, mesh, policy_follower=policy_follower)[Ask]

        async def noted(ask: Ask, context: Context) -> Message | None:
            worker.runs.add(context.run)
            return await answer(ask, context)

        task = asyncio.create_task(mesh.serve(Tier("orchestration", {Ask: noted})))
        try:
            await until(lambda: task.done() or all(mesh.readiness().values()))
            if task.done():
                await task
            yield worker
        finally:
            mesh.stop.set()
            await task


@asynccontextmanager
async def other_tiers(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run the other tiers, each with its own runtime; yield a client."""

    async def find(_: Retrieve, __: Context) -> Passages:
        return FOUND

    async def write(request: Generate, _: Context) -> Completion:
        return Completion(text=SENTENCE, model="m", backend=request.backend, finish_reason="stop")

    async with AsyncExitStack() as stack:
        for tier in (Tier("retrieval", {Retrieve: find}), Tier("inference", {Generate: write})):
            mesh = await stack.enter_async_context(
                WorkerRuntime(settings_for_another_process(settings), tier=tier.name)
            )
            task = asyncio.create_task(mesh.serve(tier))
            stack.push_async_callback(_stopped, mesh, task)
            await until(lambda mesh=mesh: all(mesh.readiness().values()))  # type: ignore[misc]
        yield await stack.enter_async_context(WorkerRuntime(settings_for_another_process(settings), tier="client"))


async def _stopped(mesh: WorkerRuntime, task: "asyncio.Task[None]") -> None:
    mesh.stop.set()
    await task


async def drawn_for(client: WorkerRuntime, *, asks: int) -> list[tuple[str, Draw]]:
    """Ask `asks` times; return the draw of each run with its id."""
    runs = [new_run_id(time.time(), Random()) for _ in range(asks)]
    await asyncio.gather(*(client.rpc.call(ASK, CallOptions(run=run, step="ask")) for run in runs))
    kept = {
        (one.key or b"").decode(): one for one in await client.logs.read_topic(RECORDS.name)
    }  # and records of other tests
    draws = [(run, RunRecord.parse(kept[run].value or b"").draw) for run in runs]
    return [(run, draw) for run, draw in draws if draw is not None]


async def test_two_workers_draw_by_the_policy_in_force(mesh_settings: MeshSettings, name: str) -> None:
    own = two_variants(name)
    async with (
        other_tiers(mesh_settings) as client,
        orchestrating(settings_for_another_process(mesh_settings), own) as one,
        orchestrating(settings_for_another_process(mesh_settings), own) as other,
    ):
        before = await drawn_for(client, asks=24)
        await put(client, policy_of(3, name, a=0.25, b=0.75))
        await until(lambda: one.policy_follower.current.version == other.policy_follower.current.version == 3)
        then = await drawn_for(client, asks=48)

        runs = {run for run, _ in then}
        assert one.runs & runs, "both of them are asked"
        assert other.runs & runs, "both of them are asked"
    assert {(draw.variant, draw.probability, draw.policy_version) for _, draw in before} == {("a", 1.0, 0)}
    assert {(draw.variant, draw.probability, draw.policy_version) for _, draw in then} == {
        ("a", 0.25, 3),
        ("b", 0.75, 3),
    }
    assert {draw.policy for _, draw in then} == {name}
    secret = (mesh_settings.state_dir / "draw.secret").read_text().strip().encode()
    now = apply_weights(own, policy_of(3, name, a=0.25, b=0.75), secret)
    assert all(draw.variant == now.draw(run).variant for run, draw in then), "they share the secret, and need it"
    assert all(draw.ms is not None for _, draw in then)


def outgoing(policy: Policy) -> ProducerRecord:
    return ProducerRecord(POLICY.name, policy.name.encode(), policy.encode(), [])


async def test_a_new_worker_has_the_last_committed_policy(mesh_settings: MeshSettings, name: str) -> None:
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        async with TransactionalProducer(mesh.connection, name) as transactions:
            for version in (1, 2):
                async with transactions.transaction() as transaction:
                    await transaction.send([outgoing(policy_of(version, name, b=1.0))])
            with suppress(OSError):
                async with transactions.transaction() as transaction:
                    await transaction.send([outgoing(policy_of(3, name, b=1.0))])
                    raise OSError("it dies")
        async with follow_policy(mesh, two_variants(name), SECRET) as policy_follower:
            assert policy_follower.current.version == 2
            assert mesh.readiness()["policy"]


async def test_the_policy_stays_in_force_while_the_broker_is_unavailable(tmp_path: Path, name: str) -> None:
    async with Kafka(tmp_path) as kafka:
        settings = MeshSettings(broker=kafka.bootstrap)
        await topic_setup.apply(settings)
        async with (
            WorkerRuntime(settings, tier="client") as mesh,
            follow_policy(mesh, two_variants(name), SECRET) as policy_follower,
        ):
            await put(mesh, policy_of(1, name, b=1.0))
            await until(lambda: policy_follower.current.version == 1)
            await kafka.stop()
            await until(lambda: not mesh.readiness()["broker"])
            assert policy_follower.current.version == 1
            assert mesh.readiness()["policy"], "what it knows of the policy does not wait for the broker"
            await kafka.start()
            await put(mesh, policy_of(2, name, a=0.5, b=0.5))
            await until(lambda: policy_follower.current.version == 2)


async def test_an_unreadable_log_delays_a_worker_only_for_the_timeout(
    mesh_settings: MeshSettings, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> LogStream:
        raise UnavailableError("it is away")

    monkeypatch.setattr(module, "START_TIMEOUT", 0.5)
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        monkeypatch.setattr(log_reader, "LogStream", away)
        async with follow_policy(mesh, two_variants(name), SECRET) as policy_follower:
            assert policy_follower.current.version == 0
            assert not mesh.readiness()["policy"], "it may be far behind"
            monkeypatch.undo()
            await until(lambda: mesh.readiness()["policy"])
    assert "poise.policy was not read to its end in 0.5 s: it is away; still reading it" in caplog.text


async def test_a_replayed_ask_uses_its_first_draw(mesh_settings: MeshSettings, name: str) -> None:
    own = two_variants(name)
    policy_follower, drawn = PolicyFollower(own), list[Draw | None]()

    class Dies(AnswerWorkflow):
        async def produce(self, _run: Run, _ask: Ask, hints: CacheHints = NO_CACHE) -> Answer:
            drawn.append(hints.draw)
            raise OSError("the worker dies")

    async with (
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh,
        DocumentVersions(mesh) as versions,
    ):
        workflow = Dies(own, AnswerCache(mesh, own, versions, policy_follower))
        door = ScriptedRun({}, run=uuid4().hex)
        for version in (0, 1):
            if version:
                policy_follower.apply(policy_record(policy_of(version, name, b=1.0)))
            async with RedisClient(mesh_settings.redis_url) as cache:
                run = Run(door, Journal(cache, name, door.run, ttl=60.0))
                with pytest.raises(OSError, match="dies"):
                    await run.execute(workflow.answer(run, ASK.model_copy(update={"cache": None})))
    first, again = drawn
    assert first is not None
    assert (first.variant, first.policy_version) == ("a", 0)
    assert again == first
