"""A client leaves a transaction open on a public topic: callers behind it get a fault at their deadline."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from batch_kit import batch, raw_producer
from integration_kit import PlainKafkaClient, serving

from poise.contracts import Answer, Ask, Fault
from poise.contracts.topics import ASK_INTERACTIVE
from poise.kafka.record import Record
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

PARTITION = 2


async def answer(ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text=ask.question, rung="primary")


ORCHESTRATION = Tier("orchestration", {Ask: answer})


@asynccontextmanager
async def left_open(bootstrap: str, *headers: tuple[str, bytes]) -> AsyncIterator[AIOKafkaProducer]:
    """Open a transaction that contains an ask; neither commit nor abort it before the end of the block."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"stranger-{uuid4().hex[:8]}", transaction_timeout_ms=15_000
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        body = Ask(question="never committed").encode()
        await producer.send_and_wait(ASK_INTERACTIVE.name, body, partition=PARTITION, headers=list(headers))
        yield producer
    finally:
        await producer.stop()


def headers(plain_client: PlainKafkaClient, name: str, deadline: float | None = None) -> list[tuple[str, bytes]]:
    told = [("reply_to", plain_client.topic.encode()), ("correlation_id", name.encode())]
    return told if deadline is None else [*told, ("poise-deadline", b"%d" % round(deadline * 1_000))]


async def test_callers_behind_an_open_transaction_get_a_fault_at_their_deadline(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with serving(mesh_settings, ORCHESTRATION), raw_producer(mesh_settings.broker) as client:
        now = time.time()
        async with left_open(mesh_settings.broker, *headers(plain_client, "inside", now + 1)) as stranger:

            async def ask(name: str, deadline: float | None) -> None:
                raw = batch([Ask(question=name).encode()], headers=headers(plain_client, name, deadline))
                await client.write(ASK_INTERACTIVE.name, PARTITION, raw)

            await ask("patient", None)
            await ask("second", now + 4)
            await ask("first", now + 3)
            await client.write(ASK_INTERACTIVE.name, PARTITION, batch([b"not an ask"]))
            told = [await plain_client.any_reply() for _ in range(2)]
            await stranger.abort_transaction()
        later = [await plain_client.any_reply() for _ in range(3)]
    assert [reply.header("correlation_id") for reply in told] == ["first", "second"]
    for reply in told:
        fault = Fault.parse(reply.value or b"")
        assert fault.type == "urn:poise:deadline-exceeded"
        assert "is behind an open transaction of another client" in fault.detail
    by_name: dict[str | None, Record] = {reply.header("correlation_id"): reply for reply in later}
    assert set(by_name) == {"first", "second", "patient"}
    assert Answer.parse(by_name["patient"].value or b"").text == "patient"
    assert by_name["first"].header("poise-kind") == "fault/1"


async def test_the_broker_limits_how_long_a_transaction_stays_open(kafka: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id="too-long", transaction_timeout_ms=60_000)
    with pytest.raises(KafkaError):
        await asyncio.wait_for(producer.start(), 20)
    await producer.stop()
