"""Streams over a real Kafka: text as it is generated, with lost, duplicated, restarted and abandoned events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from integration_kit import WITHIN, Outsider, serving, until
from redis.asyncio import Redis

from poise import Poise
from poise.contracts import Answer, Ask, Completion, Delta, End, Fault, Generate, Reset, StreamPosition
from poise.contracts.envelope import Envelope
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import ASK_INTERACTIVE, dead_letter_topic_name
from poise.dead_letters.model import DeadLetter
from poise.dead_letters.redrive_plan import RedriveOptions, redrive_headers
from poise.errors import DeadlineExceededError, FaultError, RetryableError, TerminalError
from poise.kafka.record import Record
from poise.redis.client import RedisClient
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply
from poise.rpc.client import CallOptions
from poise.rpc.stream_reader import LOST, MAX_UNREAD_CHARS, RESTARTED, position_of
from poise.rpc.stream_writer import DIFFERS
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

WORDS = ["Because ", "nobody ", "asked ", "before."]
TEXT = "".join(WORDS)


def generate(text: str = "why?") -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=text),))


def completion(text: str = TEXT) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


async def write(_request: Generate, context: Context) -> Completion:
    for word in WORDS:
        if context.stream_writer is not None:
            await context.stream_writer.write(word)
    return completion()


class Read:
    """A stream that was read to its end."""

    def __init__(self) -> None:
        self.shown = ""
        self.resets: list[Reset] = []
        self.items: list[object] = []

    async def all(self, stream: AsyncIterator[object]) -> Any:
        async with asyncio.timeout(WITHIN):
            async for item in stream:
                self.items.append(item)
                if isinstance(item, Delta):
                    self.shown += item.text
                elif isinstance(item, Reset):
                    self.resets.append(item)
                    self.shown = ""
                else:
                    last = item
        assert self.items[-1] is last  # the reply, after everything else
        return last


def run_of(mesh: WorkerRuntime) -> str:
    return f"{mesh.settings.instance}-{time.time_ns()}"


# -- as it should go ---------------------------------------------------------------------------------------------------


async def test_words_come_before_the_reply(mesh_settings: MeshSettings) -> None:
    seen = asyncio.Event()

    async def held(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write(WORDS[0])
        await seen.wait()  # goes on only when the reader has the first word
        await context.stream_writer.write("".join(WORDS[1:]))
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: held})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text=WORDS[0])
        seen.set()
        read = Read()
        reply = await read.all(stream)
    assert (reply, WORDS[0] + read.shown, read.resets) == (completion(), TEXT, [])


async def test_nothing_is_streamed_to_one_who_did_not_ask_for_it(mesh_settings: MeshSettings) -> None:
    asked: list[Context] = []

    async def look(request: Generate, context: Context) -> Completion:
        asked.append(context)
        return await write(request, context)

    async with serving(mesh_settings, Tier("inference", {Generate: look})) as mesh:
        assert await mesh.rpc.call(generate(), CallOptions(run=run_of(mesh), step="g")) == completion()
    assert asked[0].stream_writer is None


async def test_a_tier_that_does_not_stream_is_read_alike(mesh_settings: MeshSettings) -> None:
    async def plain(_request: Generate, _context: Context) -> Completion:
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: plain})) as mesh:
        read = Read()
        await read.all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert read.items == [Delta(text=TEXT), completion()]


async def test_a_reply_never_overtakes_its_stream(mesh_settings: MeshSettings) -> None:
    """A thousand streams at once, on one partition: each reader has all of its own before its reply."""
    async with serving(mesh_settings, Tier("inference", {Generate: write}, concurrency=256)) as mesh:
        reads = [Read() for _ in range(1_000)]
        run = run_of(mesh)
        await asyncio.gather(
            *(r.all(mesh.rpc.stream(generate(), CallOptions(run=f"{run}-{n}", step="g"))) for n, r in enumerate(reads))
        )
    assert {(read.shown, len(read.resets)) for read in reads} == {(TEXT, 0)}


# -- across tiers ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(settings: MeshSettings, *, accepts: bool, writes: object = write) -> AsyncIterator[WorkerRuntime]:
    """An orchestration that has inference write, and takes its words or does not."""

    async def answer(_ask: Ask, context: Context) -> Answer:
        try:
            text = (await context.call(generate(), step="g", stream=True, timeout=10)).text
        except (FaultError, DeadlineExceededError):
            text = ""
        if accepts and text:
            return Answer(run_id=context.run, text=text, rung="primary")
        if context.stream_writer is not None:
            await context.stream_writer.reset("not grounded", rung="extractive")
            await context.stream_writer.write("Word for word.")
        return Answer(run_id=context.run, text="Word for word.", rung="extractive", reason="not grounded")

    inference = Tier("inference", {Generate: writes})  # type: ignore[dict-item]  # a handler, as the caller knows
    async with serving(settings, inference), serving(settings, Tier("orchestration", {Ask: answer})) as mesh:
        yield mesh


async def test_words_go_straight_to_the_asker(mesh_settings: MeshSettings) -> None:
    async with answering(mesh_settings, accepts=True) as mesh:
        read = Read()
        reply = await read.all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert (reply.text, read.shown, read.resets) == (TEXT, TEXT, [])


async def test_words_that_are_refused_are_taken_back(mesh_settings: MeshSettings) -> None:
    async with answering(mesh_settings, accepts=False) as mesh:
        read = Read()
        reply = await read.all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert reply.text == read.shown == "Word for word."
    assert read.resets == [Reset(reason="not grounded", rung="extractive")]
    said = "".join(item.text for item in read.items if isinstance(item, Delta))
    assert said == TEXT + "Word for word."


@asynccontextmanager
async def redacting(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Asks are answered with what the model wrote, streamed, except for a redacted word."""

    async def redact(_ask: Ask, context: Context) -> Answer:
        draft = await context.call(generate(), step="draft", stream=True)
        return Answer(run_id=context.run, text=draft.text.replace("nobody", "[removed]"), rung="primary")

    async with (
        serving(settings, Tier("inference", {Generate: write})),
        serving(settings, Tier("orchestration", {Ask: redact})) as mesh,
    ):
        yield mesh


async def test_a_draft_is_taken_back_where_the_answer_is_another_one(mesh_settings: MeshSettings) -> None:
    async with redacting(mesh_settings), Poise(mesh_settings.broker) as poise:
        read = Read()
        reply = await read.all(poise.stream("why?"))
    assert reply.text == read.shown == "Because [removed] asked before."
    assert read.resets == [Reset(reason=DIFFERS)]


async def test_a_kafka_client_that_reads_the_stream_alone_keeps_no_word_of_such_a_draft(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    async with redacting(mesh_settings):
        headers: dict[str, Any] = {
            "correlation_id": "mine",
            "poise_stream_to": f"{outsider.topic}/1/mine",
            "poise_reply_partition": "1",
        }
        sent = await outsider.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', **headers)
        records = [await outsider.reply(sent)]
        while records[-1].header("poise-kind") != Answer.kind:
            records.append(await outsider.reply(sent))
    *events, reply = records
    stream = events[-1].header("poise-stream")
    reset, delta, end = [event for event in events if event.header("poise-stream") == stream]
    assert Reset.parse(reset.value or b"").reason == DIFFERS
    assert Delta.parse(delta.value or b"").text == Answer.parse(reply.value or b"").text
    assert end.header("poise-kind") == End.kind
    assert position_of(reply) == position_of(end)


async def test_a_stream_has_no_end_where_the_reply_is_larger_than_a_record(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    async def too_much(_ask: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write(TEXT)
        return Answer(run_id=context.run, text=TEXT, rung="primary", degraded=("x" * 2_000_000,))

    async with serving(mesh_settings, Tier("orchestration", {Ask: too_much})):
        headers: dict[str, Any] = {"poise_stream_to": f"{outsider.topic}/1", "poise_reply_partition": "1"}
        sent = await outsider.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', **headers)
        delta, fault = [await outsider.reply(sent) for _ in range(2)]
    assert delta.header("poise-kind") == Delta.kind
    assert (fault.header("poise-kind"), fault.header("poise-stream")) == (Fault.kind, None)


async def test_a_step_that_fails_in_the_middle_of_its_words_is_taken_back(mesh_settings: MeshSettings) -> None:
    async def breaks(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write(WORDS[0])
        raise TerminalError("the model broke")

    async with answering(mesh_settings, accepts=True, writes=breaks) as mesh:
        read = Read()
        reply = await read.all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert reply.text == read.shown == "Word for word."


async def test_any_kafka_client_can_have_words_as_they_come(mesh_settings: MeshSettings, outsider: Outsider) -> None:
    async with answering(mesh_settings, accepts=True):
        headers: dict[str, Any] = {
            "correlation_id": "mine",
            "poise_stream_to": f"{outsider.topic}/1/mine",
            "poise_reply_partition": "1",
        }
        sent = await outsider.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', **headers)
        records = [await outsider.reply(sent)]
        while records[-1].header("poise-kind") != Answer.kind:
            records.append(await outsider.reply(sent))
    *events, reply = records
    kinds = [record.header("poise-kind") for record in events]
    assert set(kinds[:-1]) == {Delta.kind}
    assert kinds[-1] == End.kind
    marks = [position_of(record) for record in records]
    (stream,) = {mark.attempt for mark in marks if mark is not None}
    assert marks == [*(StreamPosition(stream, n) for n in range(len(events))), StreamPosition(stream, len(events) - 1)]
    assert "".join(Delta.parse(event.value or b"").text for event in events[:-1]) == TEXT
    assert Answer.parse(reply.value or b"").text == TEXT


@pytest.mark.parametrize(
    ("stream_to", "says"),
    [
        ("mine", "is not topic/partition/correlation id"),
        ("mine/x/c", "is not topic/partition/correlation id"),
        ("mine/0/c", "does not exist"),
        ("poise.replies/99/c", "has the partitions 0 to 11"),
        ("poise.documents/0/c", "is reserved for Poise"),
    ],
)
async def test_a_place_where_no_stream_may_go_is_refused(
    mesh_settings: MeshSettings, outsider: Outsider, stream_to: str, says: str
) -> None:
    async with answering(mesh_settings, accepts=True):
        sent = await outsider.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', poise_stream_to=stream_to)
        reply = await outsider.reply(sent)
    assert reply.header("poise-kind") == "fault/1"
    assert b"poise-stream-to" in (reply.value or b"")
    assert says in (reply.value or b"").decode()


# -- as it should not --------------------------------------------------------------------------------------------------


async def test_a_second_attempt_begins_anew(mesh_settings: MeshSettings) -> None:
    shown = asyncio.Event()

    async def second_time_lucky(request: Generate, context: Context) -> Completion:
        if context.attempt == 1:
            assert context.stream_writer is not None
            await context.stream_writer.write("Well")
            await shown.wait()
            raise RetryableError("the connection to the model was lost")
        return await write(request, context)

    async with serving(mesh_settings, Tier("inference", {Generate: second_time_lucky})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text="Well")
        shown.set()
        read = Read()
        await read.all(stream)
    assert (read.shown, [reset.reason for reset in read.resets]) == (TEXT, [RESTARTED])
    assert isinstance(read.items[0], Reset)


async def test_a_step_that_is_finished_already_is_read_whole(mesh_settings: MeshSettings) -> None:
    """A redelivered message: the journal's reply is sent, and names no stream."""
    async with serving(mesh_settings, Tier("inference", {Generate: write})) as mesh:
        run, first, second = run_of(mesh), Read(), Read()
        await first.all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
        await second.all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
    assert second.items == [Delta(text=TEXT), completion()]
    assert first.shown == TEXT


async def test_where_another_copy_was_faster_its_reply_counts_and_not_our_words(mesh_settings: MeshSettings) -> None:
    """The holder of the step is slow, its lease ends, another one takes the step and finishes it first."""

    async def slow(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Mine.")
        await context.stream_writer._flush()
        theirs = Lease.for_step(context.tenant, context.run, context.step, Generate.kind, "0", token="theirs")  # noqa: S106
        async with (
            Redis.from_url(mesh_settings.redis_url or "") as redis,
            RedisClient(mesh_settings.redis_url) as cache,
        ):
            await redis.delete(theirs.key)
            leases = LeaseStore(cache)
            assert await leases.acquire(theirs, 10) is LeaseStatus.ACQUIRED
            await leases.store(theirs, StoredReply(Completion.kind, completion("Theirs.").encode()), 60)
        return completion("Mine.")

    async with serving(mesh_settings, Tier("inference", {Generate: slow})) as mesh:
        read = Read()
        reply = await read.all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert (reply.text, read.shown, [reset.reason for reset in read.resets]) == ("Theirs.", "Theirs.", [RESTARTED])


async def test_a_run_whose_worker_died_after_the_model_wrote_shows_the_words_again(mesh_settings: MeshSettings) -> None:
    """The ask is delivered again; the model's step is in the journal; the asker has its words from the first time."""
    died = asyncio.Event()

    async def answer(_ask: Ask, context: Context) -> Answer:
        reply = await context.call(generate(), step="g", stream=True)
        if not died.is_set():
            died.set()
            raise RetryableError("begun again, as by another worker")
        return Answer(run_id=context.run, text=reply.text, rung="primary")

    tiers = Tier("inference", {Generate: write}), Tier("orchestration", {Ask: answer})
    async with serving(mesh_settings, tiers[0]), serving(mesh_settings, tiers[1]) as mesh:
        read = Read()
        await read.all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert (read.shown, [reset.reason for reset in read.resets]) == (TEXT, [RESTARTED])


async def lossy(settings: MeshSettings, drop: int) -> Read:
    """Read a stream whose event with this number never reaches its partition."""

    async def drops(_request: Generate, context: Context) -> Completion:
        stream = context.stream_writer
        assert stream is not None
        send = stream._send

        async def sends(topic: str, value: bytes | None, **named: object) -> object:
            if dict(named["headers"])["poise-seq"] == str(drop).encode():  # type: ignore[call-overload]
                return None
            return await send(topic, value, **named)  # type: ignore[arg-type]

        stream._send = sends  # type: ignore[assignment]  # a wire that loses one
        for word in WORDS:
            await stream.write(word)
            await stream._flush()
        return completion()

    async with serving(settings, Tier("inference", {Generate: drops})) as mesh:
        read = Read()
        await read.all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    return read


@pytest.mark.parametrize("drop", [0, 2, len(WORDS)], ids=["the first", "one in the middle", "the end"])
async def test_what_is_lost_is_made_good(mesh_settings: MeshSettings, drop: int) -> None:
    read = await lossy(mesh_settings, drop)
    assert read.shown == TEXT
    assert [reset.reason for reset in read.resets] == ([LOST] if drop else [])  # before the first, nothing was shown


async def test_repeated_events_and_those_of_others_change_nothing(mesh_settings: MeshSettings) -> None:
    async def repeats(_request: Generate, context: Context) -> Completion:
        stream = context.stream_writer
        assert stream is not None
        send = stream._send

        async def twice(topic: str, value: bytes | None, **named: object) -> object:
            stranger = Envelope(correlation_id=b"somebody-else", kind=Delta.kind, stream="s", seq=0).headers()
            await send(topic, b'{"text":"not ours"}', **(named | {"headers": stranger}))  # type: ignore[arg-type]
            await send(topic, value, **named)  # type: ignore[arg-type]
            return await send(topic, value, **named)  # type: ignore[arg-type]

        stream._send = twice  # type: ignore[assignment]
        for word in WORDS:
            await stream.write(word)
            await stream._flush()
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: repeats})) as mesh:
        read = Read()
        await read.all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert (read.shown, read.resets) == (TEXT, [])


async def test_silence_after_words_is_an_error_at_the_deadline(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        reads: list[object] = []
        run = run_of(mesh)
        stream = mesh.rpc.stream(generate(), CallOptions(run=run, step="g", deadline=time.time() + 1))
        first = asyncio.ensure_future(anext(stream))
        assert mesh.rpc._calls is not None
        await until(lambda: bool(mesh.rpc._calls and mesh.rpc._calls._pending))
        (correlation_id,) = mesh.rpc._calls._pending
        event = Envelope(correlation_id=correlation_id, run=run, kind=Delta.kind, stream="s", seq=0)
        headers = event.headers()
        body = Delta(text="Well").encode()
        await mesh.producer.records.send(
            "poise.replies", body, key=None, headers=headers, partition=mesh.rpc._calls._partition
        )
        reads.append(await first)
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
        assert not mesh.rpc._calls._pending
    assert reads == [Delta(text="Well")]


async def test_a_fault_after_words_is_raised(mesh_settings: MeshSettings) -> None:
    async def breaks(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        await context.stream_writer._flush()
        raise TerminalError("the model broke")

    async with serving(mesh_settings, Tier("inference", {Generate: breaks})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text="Well")
        with pytest.raises(FaultError, match="the model broke"):
            await anext(stream)


async def test_a_reader_that_goes_away_gives_its_call_up(mesh_settings: MeshSettings) -> None:
    async def hangs(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        await asyncio.Event().wait()
        return completion("Well")

    async with serving(mesh_settings, Tier("inference", {Generate: hangs})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        await anext(stream)
        await stream.aclose()
        assert mesh.rpc._calls is not None
        assert not mesh.rpc._calls._pending
        assert not mesh.rpc._calls._pending
        assert len(mesh.rpc._calls._abandoned) == 1


async def test_a_reader_that_does_not_read_costs_no_more_than_the_answer(mesh_settings: MeshSettings) -> None:
    pieces, piece = 400, "x" * 8_192  # three times what may wait

    async def floods(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        for _ in range(pieces):
            await context.stream_writer.write(piece)
        return completion("all of it")

    async with serving(mesh_settings, Tier("inference", {Generate: floods})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        first = await anext(stream)
        assert mesh.rpc._calls is not None
        (pending,) = mesh.rpc._calls._pending.values()
        reader = pending._reader
        assert reader is not None
        most = 0
        async with asyncio.timeout(WITHIN):
            while not reader._closed:
                await asyncio.sleep(0.002)
                most = max(most, sum(map(len, reader._text)))
        read = Read()
        await read.all(stream)
    assert isinstance(first, Delta)
    assert 0 < most <= MAX_UNREAD_CHARS
    assert (read.shown, [reset.reason for reset in read.resets]) == ("all of it", [DIFFERS])


async def test_a_message_sent_again_from_the_dead_letters_streams_to_nobody(mesh_settings: MeshSettings) -> None:
    async def breaks(_request: Generate, _context: Context) -> Completion:
        raise TerminalError("the model broke")

    async with serving(mesh_settings, Tier("inference", {Generate: breaks})) as mesh:
        run = run_of(mesh)
        with pytest.raises(FaultError):
            await Read().all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
        letters: list[Record] = [
            r for r in await mesh.logs.read_topic(dead_letter_topic_name("inference")) if r.header("poise-run") == run
        ]
    (letter,) = letters
    assert letter.header("poise-stream-to") is not None
    sent = redrive_headers(DeadLetter("inference", letter, None), RedriveOptions())
    assert "poise-stream-to" not in dict(sent)
