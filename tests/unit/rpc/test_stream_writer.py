"""The stream writer: text is batched by time and size and numbered, and the buffered text is bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Completion, Delta, End, Message, Passages, Reset, StreamPosition
from poise.contracts.stream import Event
from poise.errors import TerminalError, UnavailableError
from poise.kafka.record import Headers, Position, Record
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_reader import position_of
from poise.rpc.stream_writer import DIFFERS, Coalescer, StreamLimits, StreamWriter
from poise.rpc.text_digest import TextDigest

KINDS = {kind.kind: kind for kind in (Delta, Reset, End)}
TO = ReplyAddress("poise.replies", 3, b"c")


class StreamTopic:
    """A topic of stream events, on a broker that may be slow or unavailable."""

    def __init__(self) -> None:
        self.events: list[tuple[StreamPosition, Event]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.asked = asyncio.Event()
        self.error: UnavailableError | None = None

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> Position:
        self.asked.set()
        await self.takes.wait()
        if self.error is not None:
            raise self.error
        record = Record(topic, partition or 0, 0, 0.0, key, value, tuple(headers))
        mark = position_of(record)
        assert mark is not None
        assert (topic, partition, record.raw_header("correlation_id")) == (TO.topic, TO.partition, TO.correlation_id)
        self.events.append((mark, KINDS[record.header("poise-kind") or ""].parse(value or b"")))
        return Position(topic, partition or 0, len(self.events))

    @property
    def received(self) -> list[Event]:
        return [event for _, event in self.events]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.received if isinstance(event, Delta))


@pytest.fixture
def topic() -> StreamTopic:
    return StreamTopic()


def stream(topic: StreamTopic, *, ends: bool = True, limits: StreamLimits | None = None) -> StreamWriter:
    return StreamWriter(TO, topic.send, run="r", ends=ends, limits=limits, clock=lambda: 0.0)


def completion(text: str) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


async def finish(words: StreamWriter, text: str) -> StreamPosition | None:
    """Set the reply and finish the stream, as after the handler has returned."""
    reply = completion(text)
    words.set_reply(reply)
    return await words.finish(reply)


# -- batching ----------------------------------------------------------------------------------------------------------


def test_first_text_is_sent_at_once_and_later_text_after_the_interval() -> None:
    words = Coalescer(StreamLimits(interval=0.015))
    words.add("a")
    assert words.wait(100.0) == 0
    assert words.take(100.0) == "a"
    words.add("b")
    assert words.wait(100.005) == pytest.approx(0.010)
    words.add("c")
    assert words.wait(100.016) == 0
    assert words.take(100.016) == "bc"
    words.add("d")  # after a pause there is nothing to wait for
    assert words.wait(200.0) == 0


def test_text_of_a_full_event_is_sent_at_once() -> None:
    words = Coalescer(StreamLimits(interval=0.015, event=4))
    words.add("a")
    words.take(0.0)
    words.add("bcdef")
    assert words.wait(0.001) == 0
    assert words.take(0.001) == "bcde"
    assert words.take(0.001) == "f"
    assert words.empty


@given(st.lists(st.text(max_size=9)), st.integers(1, 7))
def test_coalescer_preserves_text_and_order(parts: list[str], size: int) -> None:
    words, taken = Coalescer(StreamLimits(event=size)), []
    for part in parts:
        words.add(part)
    while not words.empty:
        taken.append(words.take(0.0))
    assert "".join(taken) == "".join(parts)
    assert all(len(one) <= size for one in taken)


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_events_are_numbered_and_end_before_the_reply(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("a")
    await words.write("b")
    mark = await finish(words, "ab")
    assert topic.text == "ab"
    assert topic.received[-1] == End()
    ids = {mark.attempt for mark, _ in topic.events}
    assert [at.seq for at, _ in topic.events] == list(range(len(topic.events)))
    assert mark == StreamPosition(ids.pop(), len(topic.events) - 1)
    assert not ids


async def test_text_written_while_the_broker_is_busy_becomes_one_event(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("a")
    topic.takes.clear()
    await words.write("b")
    await topic.asked.wait()
    for _ in range(100):
        await words.write("c")
    topic.takes.set()
    await finish(words, "ab" + "c" * 100)
    assert topic.text == "ab" + "c" * 100
    assert len(topic.events) <= 4


async def test_write_waits_while_the_buffer_is_full(topic: StreamTopic) -> None:
    words = stream(topic, limits=StreamLimits(event=10, buffer=50))
    topic.takes.clear()
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(1_000):
            await words.write("abcde")
            written += 5

    writing = asyncio.create_task(write())
    await topic.asked.wait()
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert written <= 70
    topic.takes.set()
    await writing
    await finish(words, "abcde" * 1_000)
    assert topic.text == "abcde" * 1_000


async def test_stream_without_the_reply_sends_no_end_event(topic: StreamTopic) -> None:
    words = stream(topic, ends=False)
    await words.write("a")
    mark = await finish(words, "a")
    assert topic.received == [Delta(text="a")]
    assert mark == topic.events[-1][0]


async def test_reply_names_no_stream_if_nothing_was_streamed(topic: StreamTopic) -> None:
    assert await finish(stream(topic), "a") is None
    assert topic.events == []


@pytest.mark.parametrize("reply", [TerminalError("it broke").fault(), completion("another's")])
async def test_reply_that_the_handler_did_not_return_names_no_stream(topic: StreamTopic, reply: Message) -> None:
    words = stream(topic)
    await words.write("a")
    words.set_reply(completion("a"))
    assert await words.finish(reply) is None
    assert End() not in topic.received


async def test_text_of_a_failed_attempt_does_not_count_for_the_reply(topic: StreamTopic) -> None:
    words, reply = stream(topic), completion("a")
    words.set_reply(reply)
    words.start_attempt()
    await words.write("half of")
    assert await words.finish(reply) is None


async def test_new_attempt_has_a_new_id_and_drops_buffered_text(topic: StreamTopic) -> None:
    words = stream(topic)
    topic.takes.clear()
    await words.write("a")
    await topic.asked.wait()
    await words.write("never sent")
    words.start_attempt()
    await words.write("b")
    topic.takes.set()
    await finish(words, "b")
    assert topic.received == [Delta(text="a"), Delta(text="b"), End()]
    (first, second, end) = [mark for mark, _ in topic.events]
    assert (first.seq, second.seq, end.seq) == (0, 0, 1)
    assert first.attempt != second.attempt == end.attempt


async def test_reset_starts_a_new_stream_with_its_reason(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("a")
    await topic.asked.wait()
    await words.reset("not grounded", rung="extractive")
    await words.write("b")
    mark = await finish(words, "b")
    assert topic.received == [Delta(text="a"), Reset(reason="not grounded", rung="extractive"), Delta(text="b"), End()]
    assert [at.seq for at, _ in topic.events] == [0, 0, 1, 2]
    assert mark == topic.events[-1][0]


async def test_writer_continues_the_stream_of_a_called_tier(topic: StreamTopic) -> None:
    words = stream(topic)
    assert words.begin_call(ReplyAddress("poise.replies", 9, b"own")) == TO
    await words.on_reply(completion("ab"), StreamPosition("theirs", 4))
    assert await finish(words, "ab") == StreamPosition("theirs", 5)
    assert topic.events == [(StreamPosition("theirs", 5), End())]


async def test_reply_of_a_called_tier_without_a_stream_is_streamed_whole(topic: StreamTopic) -> None:
    words = stream(topic)
    words.begin_call(TO)
    await words.on_reply(completion("ab"), None)
    await words.on_reply(Passages(passages=(), epoch="e"), None)
    await finish(words, "ab")
    assert topic.received == [Delta(text="ab"), End()]


async def test_failed_publication_of_an_event_does_not_fail_the_handler(topic: StreamTopic) -> None:
    words = stream(topic, limits=StreamLimits(event=2, buffer=4))
    await words.write("a")
    topic.error = UnavailableError("the broker is gone")
    for _ in range(100):
        await words.write("bc")
    assert await finish(words, "a" + "bc" * 100) is None  # so the reply has the text
    assert topic.text in {"", "a"}


async def test_unencodable_text_does_not_fail_the_handler(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("a\ud800")
    assert await finish(words, "a\ud800") is None
    words.start_attempt()
    await words.write("b")
    assert await finish(words, "b") is not None
    assert topic.received == [Delta(text="b"), End()]


async def test_cancelled_write_leaves_the_stream_usable(topic: StreamTopic) -> None:
    words = stream(topic, limits=StreamLimits(event=2, buffer=2))
    topic.takes.clear()
    writing = asyncio.create_task(words.write("abcdefgh"))
    await topic.asked.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    topic.takes.set()
    words.start_attempt()
    await words.write("b")
    assert await finish(words, "b") is not None
    assert topic.received[-2:] == [Delta(text="b"), End()]


# -- the reply decides -------------------------------------------------------------------------------------------------


def read(topic: StreamTopic) -> list[Event]:
    """Return the events that a reader of the stream alone keeps: those of the last attempt."""
    last = topic.events[-1][0].attempt
    return [event for mark, event in topic.events if mark.attempt == last]


async def test_reply_that_differs_from_the_stream_resets_it_before_the_end(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("Call 555-0199.")
    mark = await finish(words, "Call [removed].")
    assert topic.received == [
        Delta(text="Call 555-0199."),
        Reset(reason=DIFFERS),
        Delta(text="Call [removed]."),
        End(),
    ]
    assert read(topic) == topic.received[1:]
    assert mark == topic.events[-1][0]


async def test_reply_that_differs_from_the_called_tiers_stream_resets_it(topic: StreamTopic) -> None:
    words = stream(topic)
    words.begin_call(TO)
    await words.on_reply(completion("a draft"), StreamPosition("theirs", 4))
    await finish(words, "the answer")
    assert read(topic) == [Reset(reason=DIFFERS), Delta(text="the answer"), End()]


async def test_text_appended_to_the_called_tiers_stream_belongs_to_it(topic: StreamTopic) -> None:
    words = stream(topic)
    words.begin_call(TO)
    await words.on_reply(completion("\n a draft "), StreamPosition("theirs", 4))
    await words.write("and more\n")
    await finish(words, "a draft and more")
    assert read(topic) == [Delta(text="and more\n"), End()]


@pytest.mark.parametrize("said", ["", "an answer"])
async def test_failed_call_resets_the_text_it_streamed(topic: StreamTopic, said: str) -> None:
    """Check that the text is reset, because the writer does not know what the failed call streamed."""
    words = stream(topic)
    words.begin_call(TO)
    await finish(words, said)
    assert topic.received == [Reset(reason=DIFFERS), *([Delta(text=said)] if said else []), End()]


async def test_reply_without_text_resets_the_called_tiers_stream(topic: StreamTopic) -> None:
    words = stream(topic)
    words.begin_call(TO)
    await words.on_reply(Passages(passages=(), epoch="e"), StreamPosition("theirs", 4))
    await finish(words, "an answer")
    assert read(topic) == [Reset(reason=DIFFERS), Delta(text="an answer"), End()]


async def test_failed_attempt_is_reset_if_the_next_attempt_streams_nothing(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.write("half of")
    await topic.asked.wait()
    words.start_attempt()
    await finish(words, "an answer")
    assert topic.received == [Delta(text="half of"), Reset(reason=DIFFERS), Delta(text="an answer"), End()]


async def test_reply_is_streamed_after_a_reset(topic: StreamTopic) -> None:
    words = stream(topic)
    await words.reset("not grounded")
    await finish(words, "an answer")
    assert topic.received == [Reset(reason="not grounded"), Delta(text="an answer"), End()]


async def test_reply_without_text_does_not_reset_the_stream(topic: StreamTopic) -> None:
    words, reply = stream(topic), Passages(passages=(), epoch="e")
    await words.write("a")
    words.set_reply(reply)
    await words.finish(reply)
    assert topic.received == [Delta(text="a"), End()]


spaced = st.text(alphabet="ab \n\t\u2003é\ud800", max_size=12)


@given(st.lists(spaced), st.lists(spaced))
def test_text_digest_ignores_only_surrounding_white_space(one: list[str], other: list[str]) -> None:
    digest = TextDigest()
    for part in one:
        digest.add(part)
    assert digest.matches("".join(one))
    assert digest.matches("".join(other)) == ("".join(one).strip() == "".join(other).strip())
