"""100,000 messages that violate their contracts: no worker ends, nothing is delayed, each becomes a dead letter.

`POISE_HOSTILE` sets the number of messages, `POISE_CHAOS_SEED` their seed.
"""

import asyncio
import itertools
import json
import os
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata
from chaos_kit import PlainTopicReader, Raw, engines, rss, settled, working
from hostile_kit import MalformedMessage, malformed_messages

from poise.contracts import Ask, Fetch, Generate, RunRecord
from poise.contracts.generate import ChatMessage
from poise.contracts.record import Draw
from poise.contracts.topics import (
    ASK_BATCH,
    ASK_INTERACTIVE,
    MAX_RECORD_BYTES,
    RECORDS,
    SCORES,
    TIERS,
    dead_letter_topic_name,
)
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.worker import Worker
from poise.worker.runtime import WorkerRuntime

MESSAGES = int(os.environ.get("POISE_HOSTILE", "100000"))
SEED = int(os.environ.get("POISE_CHAOS_SEED", "1"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600 + MESSAGES // 100)]
ON_THEIR_WAY = 2_000
"""Maximum number of messages in flight."""
WITHIN = 60.0

Digest = tuple[bytes | None, int]


def digest(key: bytes | None, value: bytes | None, headers: object) -> Digest:
    """Return what identifies a message, small enough to keep 100,000 of them."""
    return key, zlib.crc32(repr((value, headers)).encode())


class Letters:
    """The dead letters by the position of their message, as a raw client reads them."""

    def __init__(self) -> None:
        self.found: dict[str, Digest] = {}
        self.repeated = 0

    def take(self, record: Raw) -> None:
        headers = list(record.headers)
        names = [name for name, _ in headers]
        added = names.index("poise-origin")
        origin = (headers[added][1] or b"").decode()
        self.repeated += origin in self.found
        self.found[origin] = digest(record.key, record.value, headers[:added])


class Sender:
    """Sends hostile messages and records the position of each."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._on_their_way: deque[tuple[MalformedMessage, asyncio.Future[RecordMetadata]]] = deque()
        self.sent: dict[str, tuple[str, Digest]] = {}
        self.allowed: list[MalformedMessage] = []

    async def send(self, message: MalformedMessage) -> None:
        acknowledged = await self._producer.send(
            message.topic.name, message.value, message.key, message.partition, headers=message.headers
        )
        self._on_their_way.append((message, acknowledged))
        await self._note(until=ON_THEIR_WAY)

    async def flush(self) -> None:
        await self._note(until=0)

    async def _note(self, *, until: int) -> None:
        while len(self._on_their_way) > until:
            message, acknowledged = self._on_their_way.popleft()
            landed = await acknowledged
            if not message.is_rejected((landed.timestamp or 0) / 1_000, message.topic.partitions):
                self.allowed.append(message)
            headers = [item for item in message.headers if item[0] != "poise-attempt"]
            kept = digest(message.key, message.value, headers)
            self.sent[f"{landed.topic}/{landed.partition}/{landed.offset}"] = message.defect, kept


async def send_all(bootstrap: str) -> Sender:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=262_144, max_request_size=MAX_RECORD_BYTES
    )
    async with producer:
        sender = Sender(producer)
        for message in itertools.islice(malformed_messages(SEED), MESSAGES):
            await sender.send(message)
        await sender.flush()
    return sender


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    """Run an OpenAI-compatible server that always gives the same answer."""
    body = json.dumps(
        {
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        }
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def still_works(mesh: WorkerRuntime) -> None:
    """Check that every tier handles a valid request, in both lanes."""
    deadline = time.time() + WITHIN
    for topic in (ASK_INTERACTIVE, ASK_BATCH):
        answer = await mesh.rpc.call(
            Ask(question="Is anybody there?"), CallOptions(step="ask", topic=topic, deadline=deadline)
        )
        assert answer.rung == "canned"  # retrieval found nothing
    chat = Generate(messages=(ChatMessage(role="user", content="x"),))
    assert (
        await mesh.rpc.call(chat, CallOptions(run=mesh.settings.instance, step="g", deadline=deadline))
    ).text == "yes"
    fetch = Fetch(integration="model")
    assert (
        "yes" in (await mesh.rpc.call(fetch, CallOptions(run=mesh.settings.instance, step="f", deadline=deadline))).text
    )
    record = RunRecord(
        run_id=mesh.settings.instance,
        workflow="w",
        tenant="t",
        question="q",
        started=1.0,
        finished=2.0,
        draw=Draw(variant="v", probability=1.0, policy="p", policy_version=1),
    )
    await mesh.producer.publish(RECORDS, record, key=record.run_id)
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(SCORES.name) as scores:
        async for batch in scores:
            if any(record.run_id.encode() in (score.value or b"") for score in batch):
                return


async def test_hostile_messages_become_dead_letters_and_nothing_else_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = Letters()
    async with engines(tmp_path) as (kafka, valkey), model() as url:
        backends = json.dumps({"default": {"url": url, "model": "m"}})
        variables = {
            "POISE_BROKER": kafka.bootstrap,
            "POISE_REDIS_URL": valkey.url,
            "POISE_LOG_LEVEL": "ERROR",
            "POISE_INFERENCE_BACKENDS": backends,
            "POISE_INTEGRATION_INTEGRATIONS": json.dumps({"model": {"url": url}}),
        }
        workers = [
            Worker(tier, 1, tmp_path / tier, port=0, log=tmp_path / f"{tier}.log", environment=variables)
            for tier in TIERS
        ]
        dead = [dead_letter_topic_name(tier) for tier in TIERS]
        settings = MeshSettings(broker=kafka.bootstrap)
        async with (
            working(workers),
            WorkerRuntime(settings, tier="client") as mesh,
            PlainTopicReader(kafka.bootstrap, dead, letters.take) as reader,
        ):
            await still_works(mesh)
            pids, before = [worker.pid for worker in workers], [rss(worker.pid) for worker in workers]
            began = time.monotonic()
            sender = await send_all(kafka.bootstrap)
            sent_after = time.monotonic() - began
            await settled(kafka.bootstrap)
            took = time.monotonic() - began
            await reader.to_the_end()
            assert [worker.pid for worker in workers if worker.child.alive] == pids
            after = [rss(pid) for pid in pids]
            await still_works(mesh)
    grown = ", ".join(f"{tier} {b:.0f} → {a:.0f} MB" for tier, b, a in zip(TIERS, before, after, strict=True))
    with capsys.disabled():
        sys.stdout.write(
            f"\nhostile: seed {SEED}, {len(sender.sent):,} messages sent in {sent_after:.1f} s, kept as dead letters "
            f"after {took:.1f} s ({len(sender.sent) / took:,.0f}/s), {letters.repeated} of them twice\n"
            f"  resident memory before and after: {grown}\n"
        )
    assert not sender.allowed
    lost = sender.sent.keys() - letters.found.keys()
    assert not Counter(sender.sent[origin][0] for origin in lost)
    assert letters.found.keys() == sender.sent.keys()
    changed = [how for origin, (how, kept) in sender.sent.items() if letters.found[origin] != kept]
    assert not Counter(changed)
