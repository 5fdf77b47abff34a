"""Injections by a raw client of Kafka: numbers, forged replies and streams, codecs, transactions, large replies."""

import asyncio
import json
import random
import time
from typing import Final
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from batch_kit import DAMAGED, raw_producer
from two_node_mesh import ANSWERS

from poise.contracts import Fault
from poise.contracts.topics import ASK_INTERACTIVE, CANCEL, FEEDBACK, POLICY, RECORDS, REPLIES
from poise.errors import FaultError, TransportError
from tests.soak.by_http import HUGE
from tests.soak.injection import UnexpectedError
from tests.soak.large_replies import Enlarge
from tests.soak.load import FORGED, SoakLoad

WITHIN: Final = 45.0
NUMBERS: Final = (
    *("poise-reply-partition", "poise-deadline", "poise-attempt", "poise-redrives", "poise-doc-version", "poise-seq"),
    *("poise-retry-due", "poise-retry-written", "poise-retry-count"),
)
UNDECODABLE: Final = (ASK_INTERACTIVE, CANCEL, FEEDBACK, RECORDS, REPLIES)
"""Topics for undecodable batches: their partition 0 always has a leader. (A broker decodes batches for compacted
topics, and rejects these.)"""
CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
LATE: Final = 5.0
"""Seconds after its deadline in which a fault still counts as in time, on a busy machine."""
TRANSACTION_TIMEOUT: Final = 15_000
"""Milliseconds: the transaction timeout of the embedded broker."""

Headers = list[tuple[str, bytes]]


async def number_in_a_header(load: SoakLoad, chance: random.Random) -> str:
    """Send a number of any size in a header of an ask: it gets an answer or a fault."""
    name, number = chance.choice(NUMBERS), chance.choice(HUGE)
    return f"{name}: {await _ask(load, [(name, number.encode())])}"


async def number_in_a_record(load: SoakLoad, chance: random.Random) -> str:
    """Write a number of any size in a field that every worker reads; the load shows that no worker ends."""
    number = chance.choice(HUGE)
    body, topic = chance.choice(
        (
            (f'{{"run": "r", "tenant": "default", "deadline": {number}}}', CANCEL),
            (f'{{"run_id": "{uuid4()}", "rating": {number}}}', FEEDBACK),
            (f'{{"name": "answer", "version": {number}, "weights": {{"default": 1}}}}', POLICY),
        )
    )
    await load.mesh.plain_client.send_and_wait(topic.name, body.encode(), key=b"r")
    return f"written to {topic.name}"


async def forged_reply(load: SoakLoad, chance: random.Random) -> str:
    """Write replies and stream events with guessed correlation ids to every partition of `poise.replies`."""
    instance = chance.choice(load.mesh.workers).name
    answer = json.dumps({"run_id": "r", "text": FORGED, "rung": "primary"}).encode()
    deltas = json.dumps({"text": FORGED}).encode()
    for partition in range(REPLIES.partitions):
        for number in range(20):
            id_ = f"{instance}.{chance.getrandbits(32):08x}.{number}".encode()
            headers: Headers = [("correlation_id", id_), ("poise-kind", b"answer/1")]
            await load.mesh.plain_client.send(REPLIES.name, answer, headers=headers, partition=partition)
            headers = [("correlation_id", id_), ("poise-kind", b"delta/1"), ("poise-stream", b"s"), ("poise-seq", b"0")]
            await load.mesh.plain_client.send(REPLIES.name, deltas, headers=headers, partition=partition)
    return f"{REPLIES.partitions * 40} records"


async def forged_stream(load: SoakLoad, chance: random.Random) -> str:
    """Send an ask that names the stream address of another client: refused."""
    worker = chance.choice(load.mesh.workers).name
    victim = f"poise.replies/{chance.randrange(REPLIES.partitions)}/{worker}.{uuid4().hex}"
    result = await _ask(load, [("poise-stream-to", victim.encode())])
    if "invalid" not in result:
        raise UnexpectedError(f"an ask with another client's stream address: {result}")
    return result


async def codec(load: SoakLoad, chance: random.Random) -> str:
    """Send an ask in a compressed batch."""
    name = chance.choice(CODECS)
    async with AIOKafkaProducer(bootstrap_servers=load.mesh.bootstrap, compression_type=name) as producer:
        return f"{name}: {await _ask(load, [], producer)}"


async def undecodable_batch(load: SoakLoad, chance: random.Random) -> str:
    """Write a batch that the broker accepts and no client can decode; an ask behind it gets an answer or a fault."""
    name, topic = chance.choice(sorted(DAMAGED)), chance.choice(UNDECODABLE)
    async with raw_producer(load.mesh.bootstrap) as producer:
        await producer.write(topic.name, 0, DAMAGED[name]())
    return f"{name} on {topic.name}: {await _ask(load, [], partition=0)}"


async def open_transaction(load: SoakLoad, _: random.Random) -> str:
    """Open a transaction on the ask topic and leave it; an ask behind it gets its fault at its deadline."""
    producer = AIOKafkaProducer(
        bootstrap_servers=load.mesh.bootstrap,
        transactional_id=f"client-{uuid4()}",
        transaction_timeout_ms=TRANSACTION_TIMEOUT,
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(ASK_INTERACTIVE.name, b'{"question": "in a transaction"}', partition=0)
        deadline = time.time() + 5.0
        headers: Headers = [("poise-deadline", b"%d" % round(deadline * 1_000))]
        result = await _ask(load, headers, partition=0)
        late = time.time() - deadline
        await asyncio.sleep(TRANSACTION_TIMEOUT / 1_000)  # until the broker aborts it, unless it has ended
    finally:
        await producer.stop()
    if late > LATE:
        raise UnexpectedError(f"{result}, {late:.1f} s after its deadline")
    return result


async def large_reply(load: SoakLoad, _: random.Random) -> str:
    """Request replies of 3 MB of a custom tier after a small one: a fault each, and small ones arrive as before."""
    results = []
    for size in (10, 3_000_000, 3_000_000, 3_000_000, 10):
        try:
            reply = await load.poise.call(Enlarge(size=size), timeout=30)
            results.append(f"{len(reply.text)}")
        except (FaultError, TransportError) as error:
            results.append(error.fault().type)
    if results[-1] not in {"10", "urn:poise:unavailable"}:
        raise UnexpectedError(f"after large replies: {results}")
    return ", ".join(results)


async def _ask(
    load: SoakLoad, headers: Headers, producer: AIOKafkaProducer | None = None, partition: int | None = None
) -> str:
    """Send a raw ask; return the rung of its answer or the type of its fault."""
    id_ = uuid4().bytes
    reply_to: Headers = [("reply_to", ANSWERS.encode()), ("correlation_id", id_)]
    waiting = asyncio.create_task(load.replies.wait(id_, WITHIN))
    body = b'{"question": "How does a lighthouse warn ships?"}'
    try:
        await (producer or load.mesh.plain_client).send_and_wait(
            ASK_INTERACTIVE.name, body, headers=[*reply_to, *headers], partition=partition
        )
    except KafkaError as error:
        waiting.cancel()
        return f"not taken: {type(error).__name__}"
    try:
        kind, value = await waiting
    except TimeoutError as error:
        raise UnexpectedError(f"silence after an ask with {headers}"[:200]) from error
    return Fault.parse(value).type if kind == Fault.kind else str(json.loads(value)["rung"])
