"""Workers recover without a restart from topics that are deleted and recreated.

Each topic is recreated twice: with fewer records than before, and with more, where offsets alone do not show it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import serving, settings_for_another_process, until
from policy_records_kit import policy_of, put
from policy_worker_kit import STEPS, LosingVariantCase, worker
from recovery_kit import WITHIN, recreate
from retrieval_kit import RandomEmbedder, RetrievalClient, RetrievalWorker

from poise.contracts import Answer, Ask, Cancel, Completion, DocumentVersion, Envelope, Generate
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import (
    CANCEL,
    COMMANDS,
    DECISIONS,
    DOCUMENTS,
    PASSAGES,
    POLICY,
    POLICY_STATE,
    REPLIES,
    SCORES,
    VERSIONS,
    Topic,
)
from poise.errors import RunCancelledError
from poise.kafka import topic_setup
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.orchestration.active_policy import follow_policy
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.settings import RetrievalSettings

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a broker for this module: other tests need their topics."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node.bootstrap


@pytest_asyncio.fixture
async def client(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        yield mesh


def new_run() -> str:
    return new_run_id(time.time(), Random())


async def write(_: Generate, __: Context) -> Completion:
    return Completion(text="hi", model="m", backend="b", finish_reason="stop")


GENERATE = Generate(messages=({"role": "user", "content": "hi"},), backend="b")


async def test_replies_arrive_after_their_topic_is_recreated(
    mesh_settings: MeshSettings, client: WorkerRuntime
) -> None:
    async with serving(settings_for_another_process(mesh_settings), Tier("inference", {Generate: write})):
        for calls in (3, 1, 6):  # answers per round: the second time fewer, then more than before
            for _ in range(calls):
                await client.rpc.call(GENERATE, CallOptions(run=new_run(), step="s"))
            await recreate(mesh_settings, REPLIES.name)
            await client.rpc.call(GENERATE, CallOptions(run=new_run(), step="s", deadline=time.time() + WITHIN))


async def test_cancels_arrive_after_their_topic_is_recreated_and_known_ones_are_kept(
    mesh_settings: MeshSettings, client: WorkerRuntime
) -> None:
    began = asyncio.Event()

    async def sleep(_: Ask, __: Context) -> Answer:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(settings_for_another_process(mesh_settings), Tier("orchestration", {Ask: sleep})) as worker:
        before = new_run()
        await client.rpc.cancel(before)
        await until(lambda: worker.cancellation.cancelled_at("default", before, None) > 0)
        for others in (0, 3):
            await recreate(mesh_settings, CANCEL.name)
            for number in range(others):
                cancel = Cancel(run=f"another {number}", tenant="default", deadline=2**63 - 1)
                await client.producer.publish(CANCEL, cancel, key="k")
            run = new_run()
            began.clear()
            asking = asyncio.create_task(client.rpc.call(Ask(question="?"), CallOptions(run=run, step="ask")))
            await began.wait()
            await client.rpc.cancel(run)
            with pytest.raises(RunCancelledError):
                await asyncio.wait_for(asking, WITHIN)
            assert worker.cancellation.cancelled_at("default", before, None) > 0


async def test_the_policy_follows_the_recreated_topic(mesh_settings: MeshSettings, client: WorkerRuntime) -> None:
    name = f"policy-{uuid4().hex[:8]}"
    own = OrchestrationSettings.model_validate({"policy": name, "variants": [{"name": "a"}, {"name": "b"}]})
    async with (
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="orchestration") as mesh,
        follow_policy(mesh, own, bytes(32)) as policy_follower,
    ):
        for version in (1, 2, 3):
            await put(client, policy_of(version, name, b=1.0))
        await until(lambda: policy_follower.current.version == 3)
        await recreate(mesh_settings, POLICY.name)
        await until(lambda: policy_follower.current.version == 0)
        await put(client, policy_of(1, name, a=1.0))
        await until(lambda: policy_follower.current.version == 1)
        await recreate(mesh_settings, POLICY.name)
        for _ in range(9):
            await put(client, policy_of(1, name, b=1.0))
        await put(client, policy_of(2, name, a=0.5, b=0.5))
        await until(lambda: policy_follower.current.version == 2)
        await until(lambda: all(met for part, met in mesh.readiness().items() if part != "started"))


@pytest.mark.parametrize("names", [(VERSIONS.name,), (DOCUMENTS.name,), (VERSIONS.name, DOCUMENTS.name)])
async def test_document_versions_follow_the_recreated_topics(
    mesh_settings: MeshSettings, client: WorkerRuntime, names: tuple[str, ...]
) -> None:
    async with DocumentVersions(client) as versions:

        async def announce(document: str, number: int, digest: str) -> None:
            version = DocumentVersion(documents=await client.logs.topic_id(DOCUMENTS.name), digest=digest)
            await client.producer.publish(VERSIONS, version, key=document, envelope=Envelope(doc_version=number))

        for number in range(5):
            await announce("d", number, "before")
        await until(lambda: versions.state_of("d") is not None)
        for others in (0, 20):
            await recreate(mesh_settings, *names)
            for number in range(others):
                await announce(f"other {number}", number, "x")
            await announce("d", 1, "after" if DOCUMENTS.name in names else "before")

            wanted = "after" if DOCUMENTS.name in names else "before"
            await until(lambda wanted=wanted: getattr(versions.state_of("d"), "digest", None) == wanted)  # type: ignore[misc]
            assert await versions.sync(8.0)
            assert versions.topic_id == await client.logs.topic_id(DOCUMENTS.name)


async def test_the_index_is_rebuilt_from_the_recreated_topics(
    mesh_settings: MeshSettings, client: WorkerRuntime
) -> None:
    retrieval_client = RetrievalClient(client)
    async with (
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="retrieval") as mesh,
        LiveIndex(mesh, RetrievalSettings(), RandomEmbedder.model) as live_index,
    ):
        retriever = RetrievalWorker(mesh, live_index)

        async def index(key: str, text: str) -> None:
            await retriever.handle_document(key, text, await retrieval_client.put(key, text))

        async def found() -> set[str]:
            return {passage.document for passage in await live_index.search("aardvark", None, 50)}

        for number in range(9):
            await index(f"old-{number}", f"aardvark {number}")

        def epoch_topic() -> str | None:
            return None if live_index._store is None else live_index.epoch.topic_id

        assert len(await found()) == 9
        for count in (2, 20):
            await recreate(mesh_settings, DOCUMENTS.name, PASSAGES.name)
            documents = await client.logs.topic_id(DOCUMENTS.name)
            await until(lambda documents=documents: epoch_topic() == documents)  # type: ignore[misc]
            await until(lambda: mesh.readiness()["index"])
            for number in range(count):
                await index(f"new-{number}", f"aardvark {number}")
            assert await found() == {f"new-{number}" for number in range(count)}


async def test_a_worker_is_not_ready_while_only_the_documents_topic_is_recreated(
    mesh_settings: MeshSettings, client: WorkerRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    retrieval_client = RetrievalClient(client)
    async with (
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="retrieval") as mesh,
        LiveIndex(mesh, RetrievalSettings(), RandomEmbedder.model) as live_index,
    ):
        retriever = RetrievalWorker(mesh, live_index)
        await retriever.handle_document("a", "aardvark", await retrieval_client.put("a", "aardvark"))
        await recreate(mesh_settings, DOCUMENTS.name)
        await until(lambda: "delete poise.passages too" in caplog.text)
        assert not mesh.readiness()["index"]
        await recreate(mesh_settings, PASSAGES.name)
        await until(lambda: mesh.readiness()["index"])
        assert live_index.epoch.topic_id == await client.logs.topic_id(DOCUMENTS.name)
        await retriever.handle_document("b", "badger", await retrieval_client.put("b", "badger"))
        assert [passage.document for passage in await live_index.search("badger", None, 5)] == ["b"]


async def test_deciding_continues_after_scores_and_commands_are_recreated(
    mesh_settings: MeshSettings, client: WorkerRuntime
) -> None:
    case = LosingVariantCase(client)
    async with worker(settings_for_another_process(mesh_settings)):
        await case.ask("set", spec=case.spec())
        await case.answers(15)
        await case.until_decided(3)
        await case.until_counted()
        await recreate(mesh_settings, SCORES.name, COMMANDS.name)
        await case.answers(60)  # more than before
        await case.until_decided(STEPS)
        await case.check()


async def test_deciding_starts_over_if_all_its_topics_are_recreated(
    mesh_settings: MeshSettings, client: WorkerRuntime
) -> None:
    names = [topic.name for topic in (SCORES, COMMANDS, POLICY, POLICY_STATE, DECISIONS)]
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(worker(settings_for_another_process(mesh_settings)))
        for _ in range(2):
            case = LosingVariantCase(client)
            await case.ask("set", spec=case.spec())
            await case.answers(60)
            await case.until_decided(1 + STEPS)
            await case.check()
            await recreate(mesh_settings, *names)
        await until(lambda: all(met for part, met in mesh.readiness().items() if part != "started"))


@pytest.mark.parametrize("topic", [POLICY, POLICY_STATE], ids=lambda topic: topic.name)
async def test_the_decided_policy_stays_in_force_if_its_topic_or_its_state_is_recreated(
    mesh_settings: MeshSettings, client: WorkerRuntime, topic: Topic
) -> None:
    """Check that the decider continues from the other topic's state, with its decision numbers and versions."""
    case = LosingVariantCase(client)
    own = OrchestrationSettings.model_validate(
        {"policy": case.name, "variants": [{"name": "steady"}, {"name": "cheap"}]}
    )
    async with (
        worker(settings_for_another_process(mesh_settings)) as decides,
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="orchestration") as mesh,
        follow_policy(mesh, own, bytes(32)) as policy_follower,
    ):
        await case.ask("set", spec=case.spec())
        await case.answers(20)
        await case.until_decided(4)
        await case.until_counted()
        before = (await case.policies())[-1]
        await until(lambda: policy_follower.current.version == before.version)
        await recreate(mesh_settings, topic.name)
        async with asyncio.timeout(WITHIN):
            while not await case.policies() or not await case.states():  # noqa: ASYNC110 - it is in the log
                await asyncio.sleep(0.05)
        assert (await case.policies())[-1] == before, "the decided policy, not the one that was set"
        await until(lambda: policy_follower.current.version == before.version)

        await case.ask("set", spec=case.spec(cooldown_answers=6))
        await until(lambda: policy_follower.current.version == before.version + 1)
        decisions = await case.decisions()
        assert [decision.id for decision in decisions] == [
            f"{case.name}-{number}" for number in range(1, len(decisions) + 1)
        ]
        assert decisions[-1].after == before.weights
        await until(lambda: all(met for part, met in decides.readiness().items() if part != "started"))
