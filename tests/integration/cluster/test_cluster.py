"""Three brokers under load: leaders change, one is killed, all are restarted; every call is answered once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import NotCoordinatorForGroupError
from cluster_kit import IDS, Cluster, cluster
from integration_kit import WITHIN, serving, until
from load_kit import VerifiedCalls, load, written

from poise.contracts import Answer, Ask, Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import CATALOGUE, INFERENCE_INTERACTIVE, REPLIES, RUNS_INTERACTIVE
from poise.kafka import producer, producer_health
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.patches.faststream_subscriber import ConcurrentSubscriber
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.probe import free_port
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise.worker.tier_runner import consumer_group
from poise_services.gateway.server import serve
from poise_services.gateway.settings import GatewaySettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TOPICS = (INFERENCE_INTERACTIVE.name, REPLIES.name, "__consumer_offsets")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def brokers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    began = time.monotonic()
    async with cluster(tmp_path_factory.mktemp("cluster")) as found:
        say(f"the cluster serves, its topics in three copies, after {time.monotonic() - began:.1f} s")
        yield found


def say(line: str) -> None:
    print(line)  # noqa: T201 - figures for the reader of the test's output


async def check(at: VerifiedCalls, brokers: Cluster, since: float) -> None:
    """Check that each call got its own answer, and that nothing else was written."""
    await at.finish()
    assert at.failed == {}
    assert len(at.outcomes) == at.accepted
    again = sum(at.handled.values()) - len(at.handled)
    asked = await written(brokers.bootstrap, INFERENCE_INTERACTIVE.name, since, at.prefix)
    replied = await written(brokers.bootstrap, REPLIES.name, since, at.prefix)
    assert len(asked) == len(replied) == at.accepted
    say(
        f"{at.accepted} calls, each answered; {asked.total() - len(asked)} written again, {again} handled again, "
        f"{replied.total() - len(replied)} replies repeated"
    )


async def test_acknowledged_records_have_two_replicas(brokers: Cluster) -> None:
    async with KafkaAdmin(Connection.of(MeshSettings(broker=brokers.bootstrap))) as admin:
        assert not [state for state in await admin.check() if state.differences]
        assert await admin.apply() == await admin.check()
        configured = await admin._configurations(CATALOGUE)
    assert {name: kept["min.insync.replicas"] for name, kept in configured.items()} == dict.fromkeys(CATALOGUE, "2")
    assert await brokers.copies() == {3}


async def test_leaders_change(brokers: Cluster) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        await brokers.restart(1)
        before = {topic: await brokers.leaders(topic) for topic in TOPICS}
        assert all(1 not in leaders.values() for leaders in before.values())
        await at.goes_on()
        began = time.monotonic()
        await brokers.prefer()
        await at.goes_on()
        say(f"preferred leaders elected: longest pause of handling {at.longest_pause(began):.2f} s")
        for topic in TOPICS:
            assert 1 in (await brokers.leaders(topic)).values(), topic
        await check(at, brokers, since)


async def test_a_broker_is_killed_and_restarted(brokers: Cluster) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        for what in ("leads the caller's partition of replies", "leads the controllers"):
            leads_replies = what == "leads the caller's partition of replies"
            if leads_replies:
                victim = (await brokers.leaders(REPLIES.name))[at.reply_partition]
            else:
                victim = await brokers.controller()
            began = time.monotonic()
            await brokers.kill(victim)
            await greet(brokers)  # before the cluster has noticed that the broker is dead
            await at.goes_on(300)
            killed = at.longest_pause(began)
            began = time.monotonic()
            await brokers.nodes[victim].start()
            await brokers.whole()
            await brokers.prefer()
            await at.goes_on()
            say(f"broker {victim}, which {what}, killed: longest pause of handling {killed:.2f} s")
            say(f"broker {victim} started again: longest pause of handling {at.longest_pause(began):.2f} s")
        await check(at, brokers, since)


async def greet(brokers: Cluster) -> None:
    """Start a process, which loads its metadata, and make a call."""
    began = time.monotonic()
    async with WorkerRuntime(MeshSettings(broker=brokers.bootstrap, spans=False), tier="client") as mesh:
        for _ in range(10):
            await mesh.logs.topic_id(REPLIES.name)
        request = Generate(messages=(ChatMessage(role="user", content="hello"),))
        assert (await mesh.rpc.call(request, CallOptions(run="hello", step="hello"))).text == "hello"
        say(f"a process that started then had its first reply after {time.monotonic() - began:.1f} s")


async def test_a_broker_that_no_longer_coordinates_the_group_is_not_trusted(brokers: Cluster) -> None:
    """Check that a response with an error and no offsets does not count as "nothing committed".

    Otherwise all messages would be handled again.
    """
    settings = MeshSettings(broker=brokers.bootstrap, spans=False)
    tier = Tier("inference", {Generate: hello})
    group = consumer_group("inference", INFERENCE_INTERACTIVE.name)
    partition = TopicPartition(INFERENCE_INTERACTIVE.name, 0)
    async with serving(settings, tier) as mesh:
        keeps = await brokers.coordinator(group)
        other = next(id_ for id_ in IDS if id_ != keeps)
        consumers = [one.consumer for one in mesh._broker.subscribers if isinstance(one, ConcurrentSubscriber)]
        consumer = next(one for one in consumers if one is not None and partition in one.assignment())
        position = await consumer.position(partition)
        await consumer.commit({partition: position})
        coordinator: Any = consumer._coordinator
        coordinator.coordinator_id = other
        assert await consumer.committed(partition) == position
        admin = mesh.admin._client
        with pytest.raises(NotCoordinatorForGroupError):
            await admin.list_consumer_group_offsets(group, group_coordinator_id=other, partitions=[partition])
        assert (await mesh.admin.committed_offsets(group, [partition]))[partition].offset == position


async def hello(request: Generate, _context: Context) -> Completion:
    return Completion(text=request.messages[0].content, model="m", backend="b", finish_reason="stop")


async def test_a_topic_without_a_leader_ends_no_process(brokers: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that meanwhile asks get 503, the gateway is not ready and its producer is replaced.

    The timeouts are shortened: a batch expires after 3 s instead of 40 s.
    """
    for name, value in {
        "SEND_TIMEOUT": 2.0,
        "BATCH_EXPIRY": 3.0,
        "STALLS_AFTER": 1.0,
        "HEALTH_CHECK_INTERVAL": 0.1,
    }.items():
        monkeypatch.setattr(producer, name, value)
    monkeypatch.setattr(producer_health, "LATE_AFTER", 0.5)
    settings = MeshSettings(broker=brokers.bootstrap, spans=False)
    async with (
        brokers.alone(RUNS_INTERACTIVE, 3),
        serving(settings, Tier("orchestration", {Ask: answer})),
        gateway(settings.model_copy(update={"instance": "gateway"})) as (client, mesh),
    ):
        before = current(mesh)
        assert (await ask(client)).status_code == 200
        await brokers.nodes[3].stop()
        refused = [await ask(client)]
        await until(lambda: not mesh.readiness()["producer"])
        await until(lambda: current(mesh) is not before)  # the batch has expired, which left a sequence gap
        refused.append(await ask(client))
        assert [(reply.status_code, reply.json()["retryable"]) for reply in refused] == [(503, True)] * 2
        assert not mesh.readiness()["producer"]
        say(f"without a leader: {mesh.producer.records.problem()}")
        await brokers.nodes[3].start()
        await brokers.whole()
        async with asyncio.timeout(WITHIN):
            while (reply := await ask(client)).status_code != 200:
                assert (reply.status_code, reply.json()["retryable"]) == (503, True)
        await until(lambda: mesh.readiness()["producer"])


async def answer(ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text=ask.question, rung="primary")


async def ask(client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.post("/v1/ask", json={"question": "Is anybody there?"})


def current(mesh: WorkerRuntime) -> object:
    """Return the current Kafka producer, if there is one."""
    return mesh.producer.records._producers[True, producer.BATCH_SIZES[0]].current


@asynccontextmanager
async def gateway(settings: MeshSettings) -> AsyncIterator[tuple[httpx2.AsyncClient, WorkerRuntime]]:
    port = free_port()
    async with WorkerRuntime(settings, tier="gateway") as mesh:
        task = asyncio.create_task(serve(mesh, GatewaySettings(port=port)))
        try:
            await until(lambda: task.done() or all(mesh.readiness().values()))
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client, mesh
        finally:
            mesh.stop.set()
            await task


async def test_all_are_restarted_one_after_the_other(brokers: Cluster) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        for id_ in IDS:
            began = time.monotonic()
            await brokers.restart(id_)
            await at.goes_on()
            say(f"broker {id_} restarted: longest pause of handling {at.longest_pause(began):.2f} s")
        await check(at, brokers, since)
