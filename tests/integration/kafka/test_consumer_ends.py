"""A consumer that ends or hangs ends its process, which is never ready without its consumer."""

import asyncio
import time
from typing import Any, ClassVar

import pytest
from group_kit import group
from integration_kit import PlainKafkaClient, serving, until

from poise.contracts.message import Message, Request
from poise.contracts.topics import retry_topic_name
from poise.errors import SetupError
from poise.liveness import Liveness
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.processor import MessageProcessor
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


class Done(Message):
    """A custom tier's reply."""

    kind: ClassVar[str] = "done/1"


class Do(Request[Done]):
    """A custom tier's request."""

    kind: ClassVar[str] = "do/1"
    reply: ClassVar[type[Message]] = Done
    tier: ClassVar[str] = "consumer-ends"


async def do(_request: Do, _context: Context) -> Done:
    return Done()


TIER = Tier("consumer-ends", {Do: do})
TOPIC = "poise.consumer-ends.requests.interactive"


async def fails(*_arguments: Any, **_options: Any) -> Any:
    raise ValueError("a bug in a client library")


async def test_the_process_ends_with_its_consumer_and_says_why(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier=TIER.name) as mesh:
        serve = asyncio.create_task(mesh.serve(TIER))
        await until(lambda: all(mesh.readiness().values()))
        consumer = mesh._consumers[0]
        assert consumer._consumer is not None
        consumer._consumer.getmany = fails  # type: ignore[method-assign]
        with pytest.raises(SetupError, match=rf"consumer of {TOPIC} has failed: ValueError: a bug in a client library"):
            await serve


@pytest.mark.parametrize("what", ["poll", "commit", "assignment", "fetching"])
async def test_any_end_of_the_consumer_ends_the_process(kafka: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    component = Liveness().component("consumer")
    async with group(kafka) as readers, readers.member(component=component) as one:
        await readers.write(1)
        await readers.until_committed(1)
        assert component.failure is None
        match what:
            case "poll":
                monkeypatch.setattr(one.consumer, "getmany", fails)
            case "commit":
                monkeypatch.setattr("poise.kafka.group_offsets.commit_once", fails)
                await readers.write(1)
            case "assignment":
                monkeypatch.setattr(one.concurrent_consumer.offsets, "assigned", fails)
                async with readers.member():
                    await until(lambda: component.failure is not None)
            case _:
                fetcher: Any = one.consumer._fetcher
                fetcher._fetch_task.cancel()
        await until(lambda: component.failure is not None)


async def test_a_poll_that_hangs_is_noticed(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    liveness = Liveness(clock=lambda: now)
    liveness.record_broker(answering=True)
    async with group(kafka) as readers, readers.member(component=liveness.component("consumer")) as one:
        now = 10.0
        await until(lambda: one.concurrent_consumer.component.progressed_at == 10.0)
        assert liveness.check() is None
        polling, release = asyncio.Event(), asyncio.Event()

        async def hangs(*_arguments: Any, **_options: Any) -> Any:
            polling.set()
            await release.wait()
            return {}

        with monkeypatch.context() as patched:
            patched.setattr(one.consumer, "getmany", hangs)
            await polling.wait()
            for now in range(11, 200, 4):  # noqa: B007 - the clock reads it
                ended = liveness.check()
            assert not liveness.conditions()["consumer"]
            assert ended is not None
            assert "made no progress" in str(ended)
        release.set()


async def test_no_header_of_a_delayed_retry_ends_the_consumer(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    """Check that the message, and the one behind it, are handled or dead-lettered."""
    topic = retry_topic_name("consumer-ends", 10.0)
    good: dict[str, str | bytes | None] = {
        "poise_retry_of": f"{TOPIC}/0/0",
        "poise_retry_written": str(round(time.time() * 1_000)),
        "poise_retry_due": "1",
        "poise_retry_count": "1",
        "poise_attempt": "1",
    }
    values: tuple[bytes | None, ...] = (b"9" * 5_000, b"9" * 18, b"-1", b"\xff", b"", None, "\u0663".encode())
    async with serving(mesh_settings, TIER):
        for header in good.keys() - {"poise_retry_due"}:
            for value in values:
                await plain_client.send(topic, b"{}", key=b"k", **{**good, header: value})
        for value in set(values) - {b"9" * 18}:  # that one is delayed for the maximum
            await plain_client.send(topic, b"{}", key=b"k", **{**good, "poise_retry_due": value})
        await plain_client.reply(await plain_client.send(topic, b"{}", key=b"k", **good))


async def test_a_bug_in_poise_costs_one_message(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = MessageProcessor._process

    async def broken(self: MessageProcessor, record: Any, *rest: Any) -> None:
        if record.header("correlation_id") == "unlucky":
            raise KeyError("nobody foresaw this")
        await process(self, record, *rest)

    monkeypatch.setattr(MessageProcessor, "_process", broken)
    async with serving(mesh_settings, TIER) as mesh, asyncio.timeout(20):
        bad = await plain_client.send(TOPIC, b"{}", key=b"k", correlation_id="unlucky")
        await plain_client.reply(await plain_client.send(TOPIC, b"{}", key=b"k"))
        letters: list[str | None] = []
        while str(bad.position) not in letters:
            letters = [
                one.header("poise-dead-position") for one in await mesh.logs.read_topic("poise.consumer-ends.dead")
            ]
