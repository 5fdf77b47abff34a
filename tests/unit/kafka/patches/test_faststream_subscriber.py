"""The subscriber that replaces FastStream's pipeline, and fails if the replaced private names move."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from faststream.kafka import TestKafkaBroker
from faststream.kafka.subscriber.usecase import LogicSubscriber
from faststream.specification import AsyncAPI

from poise.contracts import Retrieve
from poise.kafka.connection import Connection
from poise.kafka.faststream_adapter import new_broker, subscribe
from poise.kafka.patches.faststream_subscriber import ConcurrentSubscriber
from poise.kafka.record import Record


class Listener(ConsumerRebalanceListener):
    async def on_partitions_revoked(self, revoked: Any) -> None: ...

    async def on_partitions_assigned(self, assigned: Any) -> None: ...


class RecordingLoop:
    def __init__(self) -> None:
        self.listener = Listener()
        self.records: list[Record] = []

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        raise AssertionError(f"there is no consumer in the in-memory broker: {consumer}")

    def fenced(self, name: str) -> None:
        raise AssertionError(name)

    async def drain(self) -> None: ...

    def handle(self, record: Record, /) -> Awaitable[None]:
        async def keep() -> None:
            self.records.append(record)

        return keep()


def test_faststream_still_has_the_replaced_method() -> None:
    assert ConcurrentSubscriber._run_consume_loop is not LogicSubscriber._run_consume_loop
    assert LogicSubscriber._run_consume_loop.__code__.co_varnames[:2] == ("self", "consumer")


async def test_the_in_memory_broker_hands_messages_to_the_same_intake() -> None:
    broker = new_broker(Connection(("127.0.0.1:1",)))
    loop = RecordingLoop()
    subscribe(broker, ["poise.retrieval.requests.interactive"], "group", loop, accepts=(Retrieve,), options={})
    async with TestKafkaBroker(broker):
        await broker.publish(Retrieve(query="x").encode(), "poise.retrieval.requests.interactive", key=b"k")
    assert [(record.key, record.value) for record in loop.records] == [(b"k", b'{"query":"x","limit":6}')]


async def test_the_in_memory_broker_passes_headers_unchanged() -> None:
    broker, loop = new_broker(Connection(("127.0.0.1:1",))), RecordingLoop()
    subscriber = subscribe(broker, ["t"], "group", loop, accepts=(Retrieve,), options={})
    headers: Any = (("correlation_id", bytes(range(256))), ("x", None), ("x", b"1"))
    async with TestKafkaBroker(broker):
        raw: Any = ConsumerRecord("t", 0, 7, 1_700_000_000_000, 0, b"k", b"{}", None, 1, 2, headers)
        await subscriber.process_message(raw)
    assert [record.headers for record in loop.records] == [headers]


async def test_a_cancellation_while_the_consumer_stops_is_not_lost() -> None:
    """Cancel while aiokafka awaits its own cancelled tasks, when it suppresses every cancellation."""
    subscriber = subscribe(
        new_broker(Connection(("127.0.0.1:1",))), ["t"], "group", RecordingLoop(), accepts=(Retrieve,), options={}
    )
    stopping, stopped = asyncio.Event(), asyncio.Event()
    background = asyncio.create_task(asyncio.Event().wait())

    class Consumer:
        async def stop(self) -> None:
            stopping.set()
            background.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await background
            stopped.set()

    subscriber.consumer = cast("AIOKafkaConsumer", Consumer())
    task = asyncio.create_task(subscriber.stop())
    await stopping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


def test_asyncapi_shows_what_a_topic_accepts_and_returns() -> None:
    broker = new_broker(Connection(("127.0.0.1:1",)))
    subscribe(
        broker, ["poise.retrieval.requests.interactive"], "group", RecordingLoop(), accepts=(Retrieve,), options={}
    )
    document = AsyncAPI(broker).to_specification().to_jsonable()
    assert "Retrieve" in str(document["components"]["schemas"])
    assert any("poise.retrieval.requests.interactive" in str(channel) for channel in document["channels"].values())
