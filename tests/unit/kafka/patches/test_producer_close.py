"""A producer is closed within a time limit, and its pending batches fail."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import ProducerClosed
from aiokafka.producer.message_accumulator import MessageAccumulator

from poise.kafka.patches.producer_close import close


class Batch:
    drained = False

    def drain_ready(self) -> None:
        self.drained = True


class Accumulator:
    def __init__(self) -> None:
        self.batch = Batch()
        self._batches = {0: [self.batch]}
        self._pending_batches: set[Batch] = set()
        self.failed_with: Exception | None = None

    def fail_all(self, error: Exception) -> None:
        self.failed_with = error


class SlowStopProducer:
    """A producer whose `stop` waits for `answered`, as aiokafka's does for the broker."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.client_closed = False
        self._message_accumulator = Accumulator()
        self._sender = SimpleNamespace(sender_task=asyncio.create_task(asyncio.Event().wait()))
        self.client = SimpleNamespace(close=self._close_client)

    async def stop(self) -> None:
        await self.answered.wait()

    async def _close_client(self) -> None:
        self.client_closed = True


def test_aiokafka_still_has_the_private_names() -> None:
    assert {"_batches", "_pending_batches"} <= set(MessageAccumulator.__init__.__code__.co_names)


async def test_a_producer_that_stops_in_time_is_not_aborted() -> None:
    producer: Any = SlowStopProducer()
    producer.answered.set()
    await close(producer, within=10.0)
    assert not producer.client_closed
    producer._sender.sender_task.cancel()


async def test_a_producer_whose_broker_does_not_answer_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.kafka.patches.producer_close.ABORT_TIMEOUT", 0.01)
    producer: Any = SlowStopProducer()
    await close(producer, within=0.01)
    accumulator = producer._message_accumulator
    assert producer.client_closed
    assert producer._sender.sender_task.cancelled()
    assert accumulator._pending_batches == {accumulator.batch}
    assert accumulator.batch.drained
    assert isinstance(accumulator.failed_with, ProducerClosed)
