"""The stream reader: numbered events arrive in any state and order, and text is returned in order."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Completion, Delta, Message, Passages, Reset, StreamPosition
from poise.contracts.envelope import Envelope
from poise.contracts.stream import End, Event
from poise.kafka.record import Record
from poise.rpc.stream_reader import (
    LOST,
    MAX_ATTEMPTS,
    MAX_UNREAD_CHARS,
    RESTARTED,
    StreamAssembler,
    StreamReader,
    is_event,
)
from poise.rpc.stream_writer import DIFFERS


def record(stream: str | None, seq: int | None, event: Message, kind: str | None = None) -> Record:
    headers = Envelope(correlation_id=b"c", kind=kind or event.kind, stream=stream, seq=seq).headers()
    return Record("poise.replies", 0, 0, 0.0, None, event.encode(), tuple(headers))


def words(text: str) -> Delta:
    return Delta(text=text)


def reply(text: str) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


class Reading:
    """A reader, and the text that it has shown since the last reset."""

    def __init__(self) -> None:
        self.reader = StreamReader()
        self.shown = ""
        self.resets: list[str] = []

    def read(self) -> None:
        while (event := self.reader._pop()) is not None:
            if isinstance(event, Reset):
                self.resets.append(event.reason)
                self.shown = ""
            else:
                self.shown += event.text


# -- the property ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A sent attempt: its id and its events, numbered in order."""

    id: str
    events: tuple[Event, ...]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))


@st.composite
def attempts(draw: st.DrawFn) -> list[Sent]:
    sent = []
    for number in range(draw(st.integers(1, 3))):
        parts = draw(st.lists(st.text(st.sampled_from(f"{'abc'[number]}{number}"), min_size=1, max_size=3), max_size=5))
        events: list[Event] = [words(part) for part in parts]
        if draw(st.booleans()):
            events.insert(0, Reset(reason="not grounded", rung="extractive"))
        if draw(st.booleans()):
            events.append(End())
        sent.append(Sent(f"attempt-{number}", tuple(events)))
    return sent


@st.composite
def arrivals(draw: st.DrawFn, sent: list[Sent]) -> list[tuple[str, int, Event]]:
    """Draw the events of all attempts, some lost, some duplicated, possibly out of order."""
    every = [(one.id, number, event) for one in sent for number, event in enumerate(one.events)]
    kept = [event for event in every if draw(st.integers(0, 9))]
    doubled = draw(st.lists(st.sampled_from(every), max_size=3)) if every else []
    arriving = kept + doubled
    return draw(st.permutations(arriving)) if draw(st.booleans()) else arriving


@given(st.data())
def test_reader_has_a_prefix_and_finally_the_text_of_the_reply_for_any_event_loss(
    data: st.DataObject,
) -> None:
    sent = data.draw(attempts())
    counts = data.draw(st.sampled_from(sent))
    marked = bool(counts.events) and data.draw(st.booleans())
    reading = Reading()
    for id_, number, event in data.draw(arrivals(sent)):
        reading.reader.receive(record(id_, number, event))
        if data.draw(st.booleans()):  # a slow reader reads only sometimes
            reading.read()
            assert any(one.text.startswith(reading.shown) for one in sent), reading.shown
    reading.reader._put(
        reading.reader._assembler.complete(
            counts.text, StreamPosition(counts.id, len(counts.events) - 1) if marked else None
        )
    )
    reading.read()
    assert reading.shown == counts.text


@given(st.data())
def test_complete_stream_causes_no_reset(data: st.DataObject) -> None:
    (sent, *_) = data.draw(attempts())
    reading = Reading()
    for number, event in enumerate(sent.events):
        for _ in range(data.draw(st.integers(1, 2))):
            reading.reader.receive(record(sent.id, number, event))
    mark = StreamPosition(sent.id, len(sent.events) - 1) if sent.events else None
    reading.reader._put(reading.reader._assembler.complete(sent.text, mark))
    reading.read()
    assert reading.shown == sent.text
    assert reading.resets == [event.reason for event in sent.events if isinstance(event, Reset)]


# -- examples ----------------------------------------------------------------------------------------------------------


def test_text_after_a_gap_is_withheld_until_the_reply() -> None:
    order = StreamAssembler()
    assert order.add(StreamPosition("s", 0), words("a")) == [words("a")]
    assert order.add(StreamPosition("s", 2), words("c")) == []
    assert order.add(StreamPosition("s", 1), words("b")) == []
    assert order.complete("abc", StreamPosition("s", 2)) == [Reset(reason=LOST), words("abc")]


def test_missing_last_event_is_detected() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words("a"))
    assert order.complete("ab", StreamPosition("s", 1)) == [Reset(reason=LOST), words("ab")]


def test_complete_stream_with_another_text_is_replaced_by_the_reply() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words(" a draft "))
    order.add(StreamPosition("s", 1), End())
    assert order.complete("a draft", StreamPosition("s", 1)) == []
    assert order.complete("the answer", StreamPosition("s", 1)) == [Reset(reason=DIFFERS), words("the answer")]


def test_empty_stream_after_a_reset_is_replaced_by_the_reply() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), Reset(reason="not grounded"))
    assert order.complete("the answer", StreamPosition("s", 0)) == [words("the answer")]


def test_new_attempt_resets_the_text_and_earlier_attempts_are_ignored() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("first", 0), words("a"))
    assert order.add(StreamPosition("second", 0), words("b")) == [Reset(reason=RESTARTED), words("b")]
    assert order.add(StreamPosition("first", 1), words("a")) == []
    assert order.complete("b", StreamPosition("second", 0)) == []


def test_received_reset_is_not_duplicated() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("model", 0), words("a"))
    reset = Reset(reason="not grounded", rung="extractive")
    assert order.add(StreamPosition("mine", 0), reset) == [reset]


def test_attempt_without_text_resets_the_previous_attempt() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("first", 0), words("a"))
    assert order.add(StreamPosition("second", 0), End()) == [Reset(reason=RESTARTED)]
    assert order.complete("", StreamPosition("second", 0)) == []


def test_reply_without_a_stream_replaces_the_streamed_text() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words("a"))
    assert order.complete("a", None) == [Reset(reason=RESTARTED), words("a")]
    assert StreamAssembler().complete("a", None) == [words("a")]
    assert StreamAssembler().complete(None, None) == []


def test_stream_that_starts_after_the_end_is_ignored() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("mine", 0), words("b"))
    order.add(StreamPosition("mine", 1), End())
    assert order.add(StreamPosition("late", 0), words("a")) == []
    assert order.complete("b", StreamPosition("mine", 1)) == []


def test_remembered_attempts_are_bounded() -> None:
    order = StreamAssembler()
    for number in range(10 * MAX_ATTEMPTS):
        order.add(StreamPosition(str(number), 0), words("a"))
    assert len(order._previous) <= MAX_ATTEMPTS
    assert order.complete("b", None)[-1] == words("b")


@pytest.mark.parametrize(
    "broken",
    [
        record("s", 1, words("b"), kind="delta/2"),
        Record("t", 0, 0, 0.0, None, b"{", record("s", 1, words("b")).headers),
        record("s", None, words("b")),
        record(None, 1, words("b")),
    ],
    ids=["newer", "no body", "no number", "no stream"],
)
def test_undecodable_event_is_a_gap(broken: Record) -> None:
    reading = Reading()
    reading.reader.receive(record("s", 0, words("a")))
    reading.reader.receive(broken)
    reading.reader.receive(record("s", 2, words("c")))
    reading.reader._put(reading.reader._assembler.complete("abc", StreamPosition("s", 2)))
    reading.read()
    assert (reading.shown, reading.resets) == ("abc", [LOST])


def test_events_are_distinguished_from_replies() -> None:
    assert is_event(record("s", 0, words("a")))
    assert is_event(record("s", 0, words("a"), kind="delta/9"))
    assert not is_event(record("s", 0, reply("a")))
    assert not is_event(record("s", 0, reply("a"), kind="fault/1"))


# -- memory ------------------------------------------------------------------------------------------------------------


def test_unread_deltas_are_merged_into_one_event() -> None:
    reader = StreamReader()
    for number in range(1_000):
        reader.receive(record("s", number, words("ab")))
    assert reader._pop() == words("ab" * 1_000)
    assert reader._pop() is None


def test_unread_text_is_discarded_by_a_reset() -> None:
    reader = StreamReader()
    reader.receive(record("s", 0, words("a" * 1_000)))
    reader.receive(record("t", 0, Reset(reason="why")))
    reader.receive(record("t", 1, words("b")))
    assert [reader._pop(), reader._pop(), reader._pop()] == [Reset(reason="why"), words("b"), None]


async def test_unread_stream_above_its_bound_is_dropped_and_the_reply_has_the_text() -> None:
    reader, piece = StreamReader(), "a" * 10_000
    for number in range(3 * MAX_UNREAD_CHARS // len(piece)):
        reader.receive(record("s", number, words(piece)))
        assert reader._chars <= MAX_UNREAD_CHARS
        assert sum(map(len, reader._text)) == reader._chars
    await reader.on_reply(reply("all"), StreamPosition("s", 3 * MAX_UNREAD_CHARS // len(piece) - 1))
    reader.close()
    assert [event async for event in reader] == [Reset(reason=LOST), words("all")]


async def test_reply_without_text_adds_no_event() -> None:
    reader = StreamReader()
    await reader.on_reply(Passages(passages=(), epoch="e"), None)
    reader.close()
    assert [event async for event in reader] == []
