"""Bad records on every topic that processes follow are skipped; the records after them are applied."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from batch_kit import DAMAGED, batch, raw_producer
from integration_kit import serving, settings_for_another_process, until
from policy_records_kit import policy_of, put
from policy_worker_kit import LosingVariantCase
from pydantic import ValidationError
from recovery_kit import all_ready
from retrieval_kit import RandomEmbedder, RetrievalClient, RetrievalWorker

from poise.contracts import Completion, DocumentVersion, Envelope, Generate
from poise.contracts.policy import PolicyState
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import (
    CANCEL,
    CATALOGUE,
    COMMANDS,
    DECISIONS,
    DOCUMENTS,
    PASSAGES,
    POLICY,
    POLICY_STATE,
    REPLIES,
    RETRY_DELAYS,
    SCORES,
    SPANS,
    TIERS,
    VERSIONS,
    Topic,
    dead_letter_topic_name,
    retry_topic_name,
)
from poise.kafka import topic_setup
from poise.kafka.partitioner import partition_for
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings
from poise_services.orchestration.active_policy import follow_policy
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.settings import RetrievalSettings

pytestmark = pytest.mark.integration

FOLLOWED = {REPLIES, CANCEL, POLICY, POLICY_STATE, COMMANDS, SCORES, VERSIONS, PASSAGES}
"""Topics read without a group: all the time, or when a worker begins to decide."""
BY_GROUPS = {topic.name for topic in CATALOGUE.values() if topic.tier} | {
    retry_topic_name(tier, delay) for tier in TIERS for delay in RETRY_DELAYS
}
"""Topics whose bad records become dead letters: `test_bad_input.py`, `test_hostile.py`."""
LOOKED_UP = {DECISIONS.name, SPANS.name, *map(dead_letter_topic_name, TIERS)}
"""Topics that are read on request."""

Headers = list[tuple[str, bytes]]

DIGITS = b"9" * 5_000
NUMBERS = (
    "poise-seq",
    "poise-reply-partition",
    "poise-deadline",
    "poise-attempt",
    "poise-redrives",
    "poise-doc-version",
)
TEXTS = ("poise-kind", "poise-run", "poise-step", "poise-tenant", "poise-stream", "content-type", "traceparent")


def out_of_range(topic: Topic) -> Sequence[tuple[bytes, Headers]]:
    """Return bodies of each kind that a topic accepts; each field is a number out of range."""
    found: list[tuple[bytes, Headers]] = []
    for kind in topic.accepts:
        for number in (b"1" + b"0" * 400, b"-1e400", b"NaN", DIGITS):
            fields = b",".join(json.dumps(name).encode() + b":" + number for name in kind.model_fields)
            found.append((b"{" + fields + b"}", [("poise-kind", kind.kind.encode())]))
    return found


def bad_records(topic: Topic) -> Sequence[tuple[bytes | None, Headers]]:
    """Return values and headers of records that no reader can apply."""
    return [
        *((value, []) for value in (b"no JSON", b"\xff\xfe", b"", b"[1]", b"3", b"null", b'"text"', b"{}", None)),
        *((value, []) for value in (b"[" * 100_000, b'{"a":' * 100_000)),
        *((b"{}", [(name, DIGITS)]) for name in NUMBERS),
        *((b"{}", [(name, b"\xff")]) for name in (*NUMBERS, *TEXTS)),
        (b"{}", [("poise-kind", b"nobody-knows/1")]),
        *out_of_range(topic),
    ]


class BadWriter:
    """A client that writes bad records."""

    def __init__(self, bootstrap: str, producer: AIOKafkaProducer) -> None:
        self._bootstrap = bootstrap
        self._producer = producer

    async def write(self, topic: Topic, key: bytes, partition: int, *more: tuple[str, bytes]) -> None:
        """Write every bad record to a partition, with the key and without one, and undecodable batches.

        A broker rejects records without a key on a compacted topic.
        """
        for value, headers in bad_records(topic):
            for named in (key,) if topic.compacted or value is None else (key, None):
                await self._producer.send(topic.name, value, named, partition, headers=[*headers, *more])
        await self._producer.send(topic.name, b"{}", b"\xff", partition, headers=list(more))
        await self._producer.flush()
        async with raw_producer(self._bootstrap) as raw:
            if not topic.compacted:
                await raw.write(topic.name, partition, batch([None]))  # this producer does not write such a batch
            for damage in ("two frames", "wrong checksum inside", "trailing bytes", "far offset"):
                await raw.write(topic.name, partition, DAMAGED[damage](key))

    async def write_keyed(self, topic: Topic, name: str, key: str | None = None) -> None:
        """Write the bad records to the partition of a key."""
        partition = partition_for(name.encode(), topic.partitions)
        await self.write(topic, (key or name).encode(), partition)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a broker for this module: other tests need undamaged topics."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node.bootstrap


@pytest_asyncio.fixture
async def bad_writer(kafka: str) -> AsyncIterator[BadWriter]:
    async with AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5) as producer:
        yield BadWriter(kafka, producer)


def test_each_topic_is_followed_read_by_a_group_or_looked_up() -> None:
    assert {topic.name for topic in FOLLOWED} | BY_GROUPS | LOOKED_UP == CATALOGUE.keys()


async def test_records_after_bad_records_are_applied(mesh_settings: MeshSettings, bad_writer: BadWriter) -> None:
    async def write(_: Generate, context: Context) -> Completion:
        """Write bad records with the call's correlation id to its reply partition, then answer."""
        envelope = context.envelope
        assert envelope.reply_partition is not None
        await bad_writer.write(
            REPLIES, b"k", envelope.reply_partition, ("correlation_id", envelope.correlation_id or b"")
        )
        return Completion(text="hi", model="m", backend="b", finish_reason="stop")

    name = f"policy-{uuid4().hex[:8]}"
    own = OrchestrationSettings.model_validate({"policy": name, "variants": [{"name": "a"}, {"name": "b"}]})
    async with (
        serving(settings_for_another_process(mesh_settings), Tier("inference", {Generate: write})) as mesh,
        follow_policy(mesh, own, bytes(32)) as policy_follower,
        DocumentVersions(mesh) as versions,
        LiveIndex(mesh, RetrievalSettings(), RandomEmbedder.model) as live_index,
    ):
        generate = Generate(messages=({"role": "user", "content": "hi"},), backend="b")
        completion = await mesh.rpc.call(generate, CallOptions(run=new_run_id(time.time(), Random()), step="s"))
        assert completion.text == "hi", REPLIES

        await bad_writer.write(CANCEL, b"a run", 0)
        await mesh.rpc.cancel("a run")
        await until(lambda: mesh.cancellation.cancelled_at("default", "a run", None) > 0)

        await bad_writer.write_keyed(POLICY, name)
        await put(mesh, policy_of(1, name, b=1.0))
        await until(lambda: policy_follower.current.version == 1)

        await bad_writer.write_keyed(VERSIONS, "document")
        version = DocumentVersion(documents=await mesh.logs.topic_id(DOCUMENTS.name), digest="known")
        await mesh.producer.publish(VERSIONS, version, key="document", envelope=Envelope(doc_version=1))
        await until(lambda: getattr(versions.state_of("document"), "digest", None) == "known")

        await bad_writer.write_keyed(PASSAGES, "document", "document#0")
        position = await RetrievalClient(mesh).put("document", "the aardvark digs")
        await RetrievalWorker(mesh, live_index).handle_document("document", "the aardvark digs", position)
        assert [one.document for one in await live_index.search("aardvark", None, 5)] == ["document"]

        await check_deciding(mesh, bad_writer)


class CaseAmongBadRecords(LosingVariantCase):
    """A policy whose snapshots are among bad records."""

    async def states(self) -> list[PolicyState]:
        found: list[PolicyState] = []
        for record in await self.mesh.logs.read_key(POLICY_STATE.name, self.name):
            with suppress(ValidationError):
                found.append(PolicyState.parse(record.value or b""))
        return found


async def check_deciding(mesh: WorkerRuntime, bad_writer: BadWriter) -> None:
    """Check that a new worker reads the snapshot behind the bad records and decides again."""
    case = CaseAmongBadRecords(mesh)
    async with policy_worker(mesh, EvaluationSettings()):
        await case.ask("set", spec=case.spec())
        await case.until_decided(1)
        for topic in (COMMANDS, SCORES):
            await bad_writer.write_keyed(topic, case.name)
        await case.answers(15)
        await case.until_decided(2)
        await case.until_counted()
    await bad_writer.write_keyed(POLICY_STATE, case.name)
    async with policy_worker(mesh, EvaluationSettings()):
        await case.answers(10)
        await case.ask("set", spec=case.spec(cooldown_answers=6))
        await case.check()  # also that no decision was lost
        await all_ready(mesh)
