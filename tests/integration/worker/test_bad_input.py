"""An invalid message over Kafka: a fault names the field, a dead letter keeps it, later messages are handled."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from integration_kit import WITHIN, PlainKafkaClient, serving

from poise.contracts import Answer, Ask, Fault
from poise.contracts.ask import MAX_QUESTION_CHARS
from poise.contracts.topics import ASK_INTERACTIVE, dead_letter_topic_name
from poise.kafka.record import Record
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

GOOD = b'{"question": "fine?"}'
TOO_LONG = b'{"question": "%s"}' % (b"x" * (MAX_QUESTION_CHARS + 1))


async def answer(_ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text="fine", rung="primary")


ORCHESTRATION = Tier("orchestration", {Ask: answer})


async def dead_letter_of(mesh: WorkerRuntime, sent: Record) -> Record:
    letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    (letter,) = [letter for letter in letters if letter.header("correlation_id") == sent.header("correlation_id")]
    return letter


async def wait_for_dead_letter(mesh: WorkerRuntime, correlation_id: str) -> Record:
    """Wait for the dead letter with a correlation id and return it."""
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(dead_letter_topic_name("orchestration")) as letters:
        async for batch in letters:
            for letter in batch:
                if letter.header("correlation_id") == correlation_id:
                    return letter
    raise AssertionError(f"{correlation_id} is no dead letter")


async def test_the_largest_invalid_message_is_stored_whole_as_a_dead_letter(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    huge = b"{" + b"x" * 1_047_000
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        invalid = await plain_client.send(ASK_INTERACTIVE.name, huge)
        reply = await plain_client.reply(invalid)
        letter = await dead_letter_of(mesh, invalid)
    assert Fault.parse(reply.value or b"").status == 400
    assert letter.value == huge


@pytest.mark.parametrize(
    ("value", "headers", "field"),
    [
        (b'{"question": "x", "colour": "red"}', {}, "colour"),
        (b'{"question": 7}', {}, "question"),
        (b'{"question": "  "}', {}, "question"),
        (b"{}", {}, "question"),
        (TOO_LONG, {}, "question"),
        (b"{not json", {}, "body"),
        (b"", {}, "body"),
        (b"\xff\xfe", {}, "body"),
        (b"[]", {}, "body"),
        (None, {}, "body"),
        (GOOD, {"poise_kind": "wish/1"}, "poise-kind"),
        (GOOD, {"poise_kind": "poem/1"}, "poise-kind"),
        (GOOD, {"poise_deadline": "tomorrow"}, "poise-deadline"),
        (GOOD, {"poise_deadline": "-5"}, "poise-deadline"),
        (GOOD, {"poise_deadline": "1000"}, "poise-deadline"),
        (GOOD, {"poise_deadline": "253370764800000"}, "poise-deadline"),
        (GOOD, {"poise_attempt": "9" * 40}, "poise-attempt"),
        (GOOD, {"poise_min_epoch": b"\xff"}, "poise-min-epoch"),
        (GOOD, {"poise_reply_partition": "two"}, "poise-reply-partition"),
        (GOOD, {"poise_run": "x" * 10_000}, "poise-run"),
        (b'{"question": [%s0]}' % (b"0," * 40_000), {}, "question"),
    ],
)
async def test_an_invalid_message_is_a_fault_and_a_dead_letter_and_blocks_nothing(
    mesh_settings: MeshSettings,
    plain_client: PlainKafkaClient,
    value: bytes | None,
    headers: dict[str, str | bytes],
    field: str,
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        invalid = await plain_client.send(ASK_INTERACTIVE.name, value, key=b"one-conversation", **headers)
        valid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"one-conversation")
        reply = await plain_client.reply(invalid)
        assert Answer.parse((await plain_client.reply(valid)).value or b"").text == "fine"
        letter = await dead_letter_of(mesh, invalid)
    fault = Fault.parse(reply.value or b"")
    assert reply.header("poise-kind") == "fault/1"
    assert (fault.status, fault.retryable) == (400, False)
    assert [error.field for error in fault.errors] == [field]
    assert (letter.key, letter.value) == (b"one-conversation", value)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"reply_to": "no-such-topic"}, "does not exist"),
        ({"reply_to": "poise.policy"}, "reserved for Poise"),
        ({"reply_to": "poise.records"}, "reserved for Poise"),
        ({"poise_reply_partition": "99"}, "has the partitions"),
    ],
)
async def test_an_invalid_reply_address_is_a_dead_letter_with_the_reason(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, headers: dict[str, str], message: str
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        invalid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"c", **headers)
        valid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await plain_client.reply(valid)).value or b"").text == "fine"
        letter = await dead_letter_of(mesh, invalid)
    assert message in (letter.header("poise-dead-message") or "")
    assert letter.header("poise-dead-error") == "InvalidMessageError"


@pytest.mark.parametrize("value", [GOOD, b"{}"])
@pytest.mark.parametrize("setting", [{"max.message.bytes": "100"}, {"cleanup.policy": "compact"}], ids=str)
async def test_a_reply_topic_that_rejects_the_reply_blocks_nothing(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, value: bytes, setting: dict[str, str]
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        reply_topic = f"replies-{mesh.settings.instance}"
        await mesh.admin._client.create_topics([NewTopic(reply_topic, 1, 1, topic_configs=setting)])
        invalid = await plain_client.send(ASK_INTERACTIVE.name, value, key=b"c", reply_to=reply_topic)
        valid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await plain_client.reply(valid)).value or b"").text == "fine"
        await dead_letter_of(mesh, invalid)


@pytest.mark.parametrize("newer", [False, True], ids=["unreadable", "of a newer version"])
async def test_a_message_too_large_after_decompression_is_a_truncated_dead_letter(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, *, newer: bool
) -> None:
    """Check that a message of a newer version is also too large for the topic of delayed retries."""
    huge, key, name = b"{" + b"x" * 4_000_000, b"c" * 3_500_000, f"huge-{newer}"
    headers = [("correlation_id", name.encode()), ("x-large", b"y" * 100_000)]
    headers += [("poise-kind", b"ask/2")] if newer else [("reply_to", plain_client.topic.encode())]
    async with AIOKafkaProducer(
        bootstrap_servers=mesh_settings.broker, compression_type="gzip", max_request_size=20_000_000
    ) as producer:
        await producer.send_and_wait(ASK_INTERACTIVE.name, huge, key=key, headers=headers)
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        valid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await plain_client.reply(valid)).value or b"").text == "fine"
        letter = await wait_for_dead_letter(mesh, name)
    assert letter.header("poise-dead-cut") == str(len(huge))
    assert huge.startswith(letter.value or b"-")
    assert key.startswith(letter.key or b"-")
    assert letter.header("poise-dead-error") == ("NewerVersionError" if newer else "InvalidMessageError")


class NotUtf8(str):
    """A header name that is not UTF-8. Other clients may write one; aiokafka's producer cannot."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"x-caf\xe9"


async def test_a_header_name_that_is_not_utf8_blocks_nothing(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("message_accumulator", "producer"):
        monkeypatch.setattr(f"aiokafka.producer.{module}.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    headers_with_odd_name: list[tuple[str, bytes]] = [(NotUtf8("x"), b"1"), ("reply_to", plain_client.topic.encode())]
    async with AIOKafkaProducer(bootstrap_servers=mesh_settings.broker, linger_ms=50) as producer:
        for name, value in (("first", GOOD), ("second", b"{}"), ("third", GOOD)):  # all in one batch
            headers = [
                ("correlation_id", name.encode()),
                *(headers_with_odd_name if name == "second" else headers_with_odd_name[1:]),
            ]
            await producer.send(ASK_INTERACTIVE.name, value, key=b"c", headers=headers)
        await producer.flush()
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        valid = await plain_client.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        replies = {}
        while valid.header("correlation_id") not in replies:
            reply = await plain_client.any_reply()
            replies[reply.header("correlation_id")] = reply.header("poise-kind")
        letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    assert list(replies.values()) == ["answer/1", "fault/1", "answer/1", "answer/1"]
    (letter,) = [letter for letter in letters if letter.header("correlation_id") == "second"]
    assert ("x-caf\N{REPLACEMENT CHARACTER}", b"1") in letter.headers
