"""The contestants: the same handler in Poise, plain aiokafka, FastStream and confluent-kafka's asyncio client.

Each gets a job, calls `ready` when it consumes messages, and runs until `stop` is set.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from poise.contracts.generate import Completion, Generate
from poise.contracts.retrieve import Passages, Retrieve
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from tests.benchmarks.messaging.job import REPLY, Job
from tests.benchmarks.messaging.message_counter import MessageCounter

Contestant = Callable[[Job, MessageCounter, Callable[[], None], asyncio.Event], Awaitable[None]]

COMMIT_EVERY: Final = 0.5
NOTHING: Final = Passages(passages=(), epoch="")


async def poise(job: Job, counter: MessageCounter, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run a tier as a user would write it."""
    settings = MeshSettings(
        broker=job.bootstrap,
        concurrency=job.concurrency,
        spans=job.telemetry,
        admin_port=0 if job.telemetry else None,
    )
    reply = REPLY if job.work == "echo" else NOTHING

    async def handle(request: Retrieve, _context: Context) -> Passages:
        await counter.handle(request.query)
        return reply

    await serve(settings, Tier("retrieval", {Retrieve: handle}), ready, stop)


async def serve(settings: MeshSettings, tier: Tier, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Serve a tier until `stop` is set."""
    async with WorkerRuntime(settings, tier=tier.name) as mesh:
        serving = asyncio.create_task(mesh.serve(tier))
        while not all(mesh.readiness().values()) and not serving.done():  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0.01)
        ready()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        mesh.stop.set()
        await serving


async def streaming(job: Job, counter: MessageCounter, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run a tier that streams as many words as requested, the first one being the time."""

    async def handle(request: Generate, context: Any) -> Completion:
        said = [f"{time.time():.6f} ", *["word "] * (request.max_tokens - 1)]
        for word in said:
            await context.stream_writer.write(word)
            await asyncio.sleep(0)  # one by one, as a model does
        await counter.handle("")
        return Completion(text="".join(said), model="m", backend="b", finish_reason="stop")

    await serve(MeshSettings(broker=job.bootstrap, spans=False), Tier("inference", {Generate: handle}), ready, stop)


async def bare(job: Job, counter: MessageCounter, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run aiokafka with a task and a validation for each message of a batch, and two commits a second."""
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True)

    async def handle(raw: Any) -> None:
        request = Retrieve.model_validate_json(raw.value)
        await counter.handle(request.query)
        if job.work == "echo":
            said = dict(raw.headers)
            await producer.send_and_wait(
                said["reply_to"].decode(),
                REPLY.model_dump_json().encode(),
                partition=int(said["poise-reply-partition"]),
                headers=[("correlation_id", said["correlation_id"])],
            )

    async with consumer, producer:
        await assigned(consumer)
        ready()
        committed = time.monotonic()
        while not stop.is_set():
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            await asyncio.gather(*(asyncio.create_task(handle(raw)) for batch in batches.values() for raw in batch))
            if batches and time.monotonic() - committed > COMMIT_EVERY:
                await consumer.commit()
                committed = time.monotonic()


async def assigned(consumer: AIOKafkaConsumer) -> None:
    """Wait until a consumer has partitions."""
    while not consumer.assignment():  # noqa: ASYNC110 - has no event
        await asyncio.sleep(0.01)


def faststream(policy: AckPolicy) -> Contestant:
    """Return FastStream as documented, without its logger."""

    async def run(job: Job, counter: MessageCounter, ready: Callable[[], None], stop: asyncio.Event) -> None:
        broker = KafkaBroker(job.bootstrap, logger=None)
        subscriber = broker.subscriber(job.topic, group_id=job.group, auto_offset_reset="earliest", ack_policy=policy)
        if policy is AckPolicy.MANUAL:

            @subscriber
            async def acknowledge(request: Retrieve, message: KafkaMessage) -> None:
                await counter.handle(request.query)
                await message.ack()
        else:

            @subscriber
            async def handle(request: Retrieve) -> None:
                await counter.handle(request.query)

        await broker.start()
        consumer = subscriber.consumer
        if consumer is not None:
            await assigned(consumer)
        ready()
        await stop.wait()
        await broker.stop()

    return run


async def confluent(job: Job, counter: MessageCounter, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run confluent-kafka's asyncio client in batches, with a task and a validation for each message."""
    from confluent_kafka.aio import AIOConsumer  # noqa: PLC0415 - of the extra `bench`

    consumer = AIOConsumer(
        {"bootstrap.servers": job.bootstrap, "group.id": job.group, "auto.offset.reset": "earliest"}, max_workers=2
    )

    async def handle(raw: Any) -> None:
        request = Retrieve.model_validate_json(raw.value())
        await counter.handle(request.query)

    await consumer.subscribe([job.topic])
    while not await consumer.assignment():
        await consumer.consume(num_messages=1, timeout=0.05)
    ready()
    while not stop.is_set():
        batch = await consumer.consume(num_messages=500, timeout=0.1)
        await asyncio.gather(*(asyncio.create_task(handle(raw)) for raw in batch if raw.error() is None))
    await consumer.close()


CONTESTANTS: Final[dict[str, Contestant]] = {
    "poise": poise,
    "poise, streaming": streaming,
    "aiokafka, bare": bare,
    "confluent-kafka asyncio": confluent,
    **{f"FastStream {policy.name}": faststream(policy) for policy in AckPolicy},
}
"""The contestants by their displayed names."""
