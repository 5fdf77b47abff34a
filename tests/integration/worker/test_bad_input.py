"""What a client may get wrong over Kafka: a fault that names the field, a dead letter, and nobody behind it waits."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from integration_kit import WITHIN, Outsider, serving

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


async def letter_of(mesh: WorkerRuntime, sent: Record) -> Record:
    letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    (letter,) = [one for one in letters if one.header("correlation_id") == sent.header("correlation_id")]
    return letter


async def kept(mesh: WorkerRuntime, correlation_id: str) -> Record:
    """The dead letter with that correlation id, as soon as there is one."""
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(dead_letter_topic_name("orchestration")) as letters:
        async for batch in letters:
            for letter in batch:
                if letter.header("correlation_id") == correlation_id:
                    return letter
    raise AssertionError(f"{correlation_id} is no dead letter")


async def test_the_largest_message_that_is_wrong_is_kept_whole(mesh_settings: MeshSettings, outsider: Outsider) -> None:
    huge = b"{" + b"x" * 1_047_000
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        wrong = await outsider.send(ASK_INTERACTIVE.name, huge)
        reply = await outsider.reply(wrong)
        letter = await letter_of(mesh, wrong)
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
async def test_each_mistake_is_named_kept_and_passed(
    mesh_settings: MeshSettings,
    outsider: Outsider,
    value: bytes | None,
    headers: dict[str, str | bytes],
    field: str,
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        wrong = await outsider.send(ASK_INTERACTIVE.name, value, key=b"one-conversation", **headers)
        right = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"one-conversation")
        reply = await outsider.reply(wrong)
        assert Answer.parse((await outsider.reply(right)).value or b"").text == "fine"
        letter = await letter_of(mesh, wrong)
    fault = Fault.parse(reply.value or b"")
    assert reply.header("poise-kind") == "fault/1"
    assert (fault.status, fault.retryable) == (400, False)
    assert [error.field for error in fault.errors] == [field]
    assert (letter.key, letter.value) == (b"one-conversation", value)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"reply_to": "no-such-topic"}, "does not exist"),
        ({"reply_to": "poise.policy"}, "reserved for Poise"),
        ({"reply_to": "poise.records"}, "reserved for Poise"),
        ({"poise_reply_partition": "99"}, "has the partitions"),
    ],
)
async def test_an_address_that_cannot_be_used_is_a_dead_letter_that_says_so(
    mesh_settings: MeshSettings, outsider: Outsider, headers: dict[str, str], said: str
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        wrong = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"c", **headers)
        right = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await outsider.reply(right)).value or b"").text == "fine"
        letter = await letter_of(mesh, wrong)
    assert said in (letter.header("poise-dead-message") or "")
    assert letter.header("poise-dead-error") == "InvalidMessageError"


@pytest.mark.parametrize("value", [GOOD, b"{}"])
@pytest.mark.parametrize("setting", [{"max.message.bytes": "100"}, {"cleanup.policy": "compact"}], ids=str)
async def test_an_address_that_takes_no_reply_holds_nobody_up(
    mesh_settings: MeshSettings, outsider: Outsider, value: bytes, setting: dict[str, str]
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        theirs = f"theirs-{mesh.settings.instance}"
        await mesh.admin._client.create_topics([NewTopic(theirs, 1, 1, topic_configs=setting)])
        wrong = await outsider.send(ASK_INTERACTIVE.name, value, key=b"c", reply_to=theirs)
        right = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await outsider.reply(right)).value or b"").text == "fine"
        await letter_of(mesh, wrong)


@pytest.mark.parametrize("newer", [False, True], ids=["unreadable", "of a newer version"])
async def test_a_message_that_unpacks_to_more_than_any_record_may_be_is_kept_as_far_as_it_can_be(
    mesh_settings: MeshSettings, outsider: Outsider, *, newer: bool
) -> None:
    """One of a newer version would be put off, but has no room in the topic for that either."""
    huge, key, name = b"{" + b"x" * 4_000_000, b"c" * 3_500_000, f"huge-{newer}"
    headers = [("correlation_id", name.encode()), ("theirs", b"y" * 100_000)]
    headers += [("poise-kind", b"ask/2")] if newer else [("reply_to", outsider.topic.encode())]
    async with AIOKafkaProducer(
        bootstrap_servers=mesh_settings.broker, compression_type="gzip", max_request_size=20_000_000
    ) as producer:
        await producer.send_and_wait(ASK_INTERACTIVE.name, huge, key=key, headers=headers)
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        right = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        assert Answer.parse((await outsider.reply(right)).value or b"").text == "fine"
        letter = await kept(mesh, name)
    assert letter.header("poise-dead-cut") == str(len(huge))
    assert huge.startswith(letter.value or b"-")
    assert key.startswith(letter.key or b"-")
    assert letter.header("poise-dead-error") == ("NewerVersionError" if newer else "InvalidMessageError")


class NotUtf8(str):
    """A header's name as a client of another language may write it: aiokafka's own producer cannot."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"x-caf\xe9"


async def test_a_header_whose_name_is_not_utf8_stops_nobody(
    mesh_settings: MeshSettings, outsider: Outsider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("message_accumulator", "producer"):
        monkeypatch.setattr(f"aiokafka.producer.{module}.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    odd: list[tuple[str, bytes]] = [(NotUtf8("x"), b"1"), ("reply_to", outsider.topic.encode())]
    async with AIOKafkaProducer(bootstrap_servers=mesh_settings.broker, linger_ms=50) as producer:
        for name, value in (("first", GOOD), ("second", b"{}"), ("third", GOOD)):  # in one batch
            headers = [("correlation_id", name.encode()), *(odd if name == "second" else odd[1:])]
            await producer.send(ASK_INTERACTIVE.name, value, key=b"c", headers=headers)
        await producer.flush()
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        right = await outsider.send(ASK_INTERACTIVE.name, GOOD, key=b"c")
        replies = {}
        while right.header("correlation_id") not in replies:
            reply = await outsider.any_reply()
            replies[reply.header("correlation_id")] = reply.header("poise-kind")
        letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    assert list(replies.values()) == ["answer/1", "fault/1", "answer/1", "answer/1"]
    (letter,) = [one for one in letters if one.header("correlation_id") == "second"]
    assert ("x-caf\N{REPLACEMENT CHARACTER}", b"1") in letter.headers
