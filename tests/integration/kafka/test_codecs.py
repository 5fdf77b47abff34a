"""Records that other clients compressed: librdkafka, and Kafka's Java classes."""

import asyncio
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from batch_kit import CODECS
from confluent_kafka import Producer
from integration_kit import PlainKafkaClient, serving, settings_for_another_process, until

from poise.contracts import Answer, Ask, Cancel, Fault, Retrieve
from poise.contracts.document import Deletion, Document
from poise.contracts.message import Message, Request
from poise.contracts.run_id import derive_run_id
from poise.contracts.topics import ASK_INTERACTIVE, CANCEL, DOCUMENTS
from poise.kafka.record import Position
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

LONG = "x" * 3_000
"""Long enough to be compressed."""


class Echoed(Message):
    """A custom tier's reply."""

    kind: ClassVar[str] = "echoed/1"
    text: str


class Echo(Request[Echoed]):
    """A custom tier's request."""

    kind: ClassVar[str] = "echo/1"
    reply: ClassVar[type[Message]] = Echoed
    tier: ClassVar[str] = "compressed-echo"
    text: str


class Compressing:
    """A producer of librdkafka with a codec."""

    def __init__(self, bootstrap: str, codec: str) -> None:
        options = {"bootstrap.servers": bootstrap, "compression.type": codec, "partitioner": "murmur2_random"}
        self._producer = Producer(options)

    async def send(self, topic: str, body: bytes, *, key: bytes = b"k", **headers: str) -> Position:
        """Send a record and wait for the acknowledgement."""
        landed: asyncio.Future[Position] = asyncio.get_running_loop().create_future()

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            landed.set_result(
                Position(message.topic(), message.partition(), message.offset(), message.timestamp()[1] / 1_000)
            )

        self._producer.produce(topic, body, key=key, headers=list(headers.items()), on_delivery=delivered)
        self._producer.flush()
        return await landed


@pytest.mark.parametrize("codec", CODECS)
async def test_records_compressed_by_librdkafka_are_read(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, codec: str
) -> None:
    documents: list[str] = []

    async def answer(ask: Ask, context: Context) -> Answer:
        if ask.question.startswith("wait"):
            await asyncio.Event().wait()
        return Answer(run_id=context.run, text=ask.question, rung="primary")

    async def keep(document: Document, _context: Context) -> None:
        documents.append(document.text)

    async def nothing(_request: Any, _context: Context) -> Any:
        raise AssertionError

    async def echo(request: Echo, _context: Context) -> Echoed:
        return Echoed(text=request.text)

    orchestration = Tier("orchestration", {Ask: answer})
    retrieval = Tier("retrieval", {Retrieve: nothing, Document: keep, Deletion: nothing})
    custom = Tier("compressed-echo", {Echo: echo})
    client = Compressing(mesh_settings.broker, codec)

    async def reply(correlation_id: str) -> bytes:
        while (found := await plain_client.any_reply()).header("correlation_id") != correlation_id:
            pass
        return found.value or b""

    async with (
        serving(mesh_settings, orchestration),
        serving(settings_for_another_process(mesh_settings), retrieval),
        serving(settings_for_another_process(mesh_settings), custom),
    ):
        await client.send(
            ASK_INTERACTIVE.name,
            Ask(question=LONG).encode(),
            reply_to=plain_client.topic,
            correlation_id="ask",
        )
        assert Answer.parse(await reply("ask")).text == LONG

        at = await client.send(
            ASK_INTERACTIVE.name,
            Ask(question=f"wait {LONG}").encode(),
            reply_to=plain_client.topic,
            correlation_id="cancelled",
        )
        run = derive_run_id(at.topic, at.partition, at.offset, at.timestamp)
        cancel = Cancel(run=run, tenant=mesh_settings.tenant, deadline=round((at.timestamp + 60) * 1_000))
        await client.send(CANCEL.name, cancel.encode() + b" " * 3_000)
        assert Fault.parse(await reply("cancelled")).type == "urn:poise:cancelled"

        await client.send(DOCUMENTS.name, Document(text=f"{codec} {LONG}", source="s").encode(), key=b"a document")
        await until(lambda: f"{codec} {LONG}" in documents)  # other tests may have left some in the topic

        await client.send(
            "poise.compressed-echo.requests.interactive",
            Echo(text=LONG).encode(),
            reply_to=plain_client.topic,
            correlation_id="echo",
        )
        assert Echoed.parse(await reply("echo")).text == LONG


@pytest.mark.parametrize("codec", CODECS)
async def test_records_compressed_by_the_broker_are_read(
    mesh_settings: MeshSettings, kafka_node: Kafka, codec: str
) -> None:
    """Let the broker compress the records, with the Java producer's classes: the topic names a codec."""
    topic = f"java-{codec}-{uuid4().hex[:8]}"
    sent = [b"%d %s" % (number, LONG.encode()) for number in range(50)]
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        await mesh.admin._client.create_topics([NewTopic(topic, 1, 1, topic_configs={"compression.type": codec})])
        async with AIOKafkaProducer(bootstrap_servers=mesh_settings.broker, linger_ms=100) as producer:
            await asyncio.gather(*[await producer.send(topic, value, headers=[("h", b"v")]) for value in sent])
        records = await mesh.logs.read_topic(topic)
    stored = (kafka_node.directory / "data" / f"{topic}-0" / f"{0:020}.log").read_bytes()
    assert stored[22] & 0x07 == CODECS[codec]
    assert [(record.value, record.headers) for record in records] == [(value, (("h", b"v"),)) for value in sent]
