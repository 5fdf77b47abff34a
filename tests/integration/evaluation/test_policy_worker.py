"""Deciding on a real Kafka: one consistent policy, regardless of changes of ownership."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from integration_kit import PlainKafkaClient, settings_for_another_process, until
from policy_worker_kit import STEPS, WITHIN, LosingVariantCase, worker

from poise.contracts.policy import Decision, PolicyState
from poise.contracts.topics import COMMANDS, POLICY_STATE, SCORES
from poise.errors import SetupError
from poise.kafka import topic_setup
from poise.kafka.transactions import TransactionalProducer
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
KILLED = ROOT / "tests" / "kit" / "killed_decider.py"


@pytest.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Yield a process that does not decide: it sends commands and scores, and reads decisions."""
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="cli") as mesh:
        yield mesh


def moved_once(decisions: list[Decision], name: str) -> None:
    """Check that the bad variant was decreased in steps, once."""
    moves = [made.action for made in decisions if made.by == "loop"]
    assert moves == [*["shift"] * (STEPS - 1), "roll back"]
    assert decisions[-1].after == pytest.approx({"steady": 0.95, "cheap": 0.05}), name


async def test_a_set_policy_becomes_active_and_a_bad_variant_loses_its_share(
    mesh_settings: MeshSettings, mesh: WorkerRuntime
) -> None:
    case = LosingVariantCase(mesh)
    async with worker(mesh_settings):
        id_ = await case.ask("set", spec=case.spec())
        (set_,) = await case.until_decided(1)
        assert (set_.command, set_.acted) == (id_, True)
        await case.answers(60)
        await case.until_decided(1 + STEPS)
        decisions = await case.check()
    moved_once(decisions, case.name)


async def test_duplicate_scores_count_once_and_undecodable_ones_block_nothing(
    mesh_settings: MeshSettings, mesh: WorkerRuntime
) -> None:
    case, plain_client = LosingVariantCase(mesh), PlainKafkaClient(mesh_settings.broker)
    await plain_client.start()
    try:
        async with worker(mesh_settings):
            await plain_client.send(COMMANDS.name, b"{", key=case.name.encode())
            await case.ask("set", spec=case.spec())
            await case.until_decided(1)
            for bad in (b"", b"{", b'{"run_id": 1}', None):
                await plain_client.send(SCORES.name, bad, key=case.name.encode())
                await plain_client.send(COMMANDS.name, bad, key=case.name.encode())
            await case.answers(60, times=2)
            await case.until_decided(1 + STEPS)
            moved_once(await case.check(), case.name)
    finally:
        await plain_client.stop()


async def test_rebalances_leave_one_policy(mesh_settings: MeshSettings, mesh: WorkerRuntime) -> None:
    case = LosingVariantCase(mesh)
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(worker(settings_for_another_process(mesh_settings)))
        await case.ask("set", spec=case.spec())
        answering = asyncio.create_task(case.answers(100))
        await case.until_decided(3)
        await second.enter_async_context(worker(settings_for_another_process(mesh_settings)))
        await case.until_decided(5)
        await first.aclose()
        await answering
        await case.until_decided(1 + STEPS)
        moved_once(await case.check(), case.name)


@pytest.mark.parametrize("place", ["sent", "committed"])
async def test_a_killed_worker_is_replaced(mesh_settings: MeshSettings, mesh: WorkerRuntime, place: str) -> None:
    case = LosingVariantCase(mesh)
    named = {"POISE_BROKER": mesh_settings.broker, "POISE_INSTANCE": f"killed-{uuid4().hex[:8]}"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **named, "PYTHONPATH": path}
    process = await asyncio.create_subprocess_exec(sys.executable, str(KILLED), place, "4", env=environment)
    await case.ask("set", spec=case.spec())
    await case.until_decided(1)
    ended = asyncio.create_task(process.wait())
    while not ended.done() and case.runs < 120:  # a few at a time, or all steps are one transaction
        await case.answers(4)
        await asyncio.wait({ended}, timeout=0.2)
    assert await asyncio.wait_for(ended, 30) == -signal.SIGKILL
    await case.answers(60 - case.runs // 2)
    counted = len(await case.decisions())
    assert 1 <= counted < 1 + STEPS
    # of the same name, it has its place in the group at once
    async with worker(MeshSettings(broker=mesh_settings.broker, instance=named["POISE_INSTANCE"])):
        await case.until_decided(1 + STEPS)
        moved_once(await case.check(), case.name)


async def test_a_fenced_worker_writes_nothing_and_continues_from_the_log(
    mesh_settings: MeshSettings, mesh: WorkerRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    case = LosingVariantCase(mesh)
    async with worker(mesh_settings):
        await case.ask("set", spec=case.spec())
        await case.until_decided(1)
        partition = await mesh.logs.partition_of(SCORES.name, case.name.encode())
        async with TransactionalProducer(mesh.connection, f"poise.decider.{partition}"):
            await case.answers(60)
            await until(lambda: "to be restarted if it is still owned" in caplog.text)
            assert len(await case.decisions()) == 1
        await case.until_decided(1 + STEPS)
        moved_once(await case.check(), case.name)


async def test_the_second_worker_of_a_name_ends_the_first(mesh_settings: MeshSettings, mesh: WorkerRuntime) -> None:
    case = LosingVariantCase(mesh)
    twin = MeshSettings(broker=mesh_settings.broker, instance=f"twin-{uuid4().hex[:8]}")
    async with worker(twin) as first:
        await case.ask("set", spec=case.spec())
        await case.until_decided(1)
        async with worker(twin):
            with pytest.raises(SetupError, match=f"another process also has the name {twin.instance}"):
                await asyncio.wait_for(first.liveness.watch(), WITHIN)
            await case.answers(60)
            await case.until_decided(1 + STEPS)
            moved_once(await case.check(), case.name)


async def test_a_snapshot_of_a_newer_worker_ends_the_worker(tmp_path: Path) -> None:
    """Use a separate broker: the snapshot would end every later policy worker too."""
    async with Kafka(tmp_path) as kafka:
        settings = MeshSettings(broker=kafka.bootstrap)
        await topic_setup.apply(settings)
        async with WorkerRuntime(settings_for_another_process(settings), tier="cli") as mesh:
            case = LosingVariantCase(mesh)
            newer = PolicyState(name=case.name, next_score_offset=0, next_command_offset=0, decider={"format": 99})
            await mesh.producer.publish(POLICY_STATE, newer, key=case.name)
            partition = await mesh.logs.partition_of(SCORES.name, case.name.encode())
            async with WorkerRuntime(settings, tier="evaluation") as ended, policy_worker(ended, EvaluationSettings()):
                with pytest.raises(
                    SetupError, match=f"work for {SCORES.name}/{partition} has failed: .* a newer worker"
                ):
                    await asyncio.wait_for(ended.liveness.watch(), WITHIN)


async def test_a_broker_restart_and_lost_scores_leave_one_policy(tmp_path: Path) -> None:
    async with Kafka(tmp_path) as kafka:
        settings = MeshSettings(broker=kafka.bootstrap)
        await topic_setup.apply(settings)
        async with WorkerRuntime(settings_for_another_process(settings), tier="cli") as mesh:
            case = LosingVariantCase(mesh)
            async with worker(settings):
                await case.ask("set", spec=case.spec())
                await case.answers(15)
                await case.until_decided(3)
                kafka.kill()
                await kafka.stop()
                await kafka.start()
                await case.answers(45)
                await case.until_decided(1 + STEPS)
                moved_once(await case.check(), case.name)
            await lost(settings, SCORES.name)
            async with worker(settings):
                await case.ask("release")
                await case.answers(5)
                await case.check()


async def lost(settings: MeshSettings, topic: str) -> None:
    """Delete and recreate a topic, so that its records and offsets are lost."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(WITHIN):
            while topic in await admin.list_topics():  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await topic_setup.apply(settings)
