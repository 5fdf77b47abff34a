"""Numbered events in whatever state they come, words in order out."""

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
    """A reader, and what it has shown since the last reset."""

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
    """One attempt: its id and its events, numbered in order."""

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
    """All events of all attempts, some of them lost, doubled, and in another order than they were sent in."""
    every = [(one.id, number, event) for one in sent for number, event in enumerate(one.events)]
    kept = [event for event in every if draw(st.integers(0, 9))]
    doubled = draw(st.lists(st.sampled_from(every), max_size=3)) if every else []
    arriving = kept + doubled
    return draw(st.permutations(arriving)) if draw(st.booleans()) else arriving


@given(st.data())
def test_whatever_happens_to_events_the_reader_has_a_beginning_and_in_the_end_the_text_that_counts(
    data: st.DataObject,
) -> None:
    sent = data.draw(attempts())
    counts = data.draw(st.sampled_from(sent))
    marked = bool(counts.events) and data.draw(st.booleans())
    reading = Reading()
    for id_, number, event in data.draw(arrivals(sent)):
        reading.reader.receive(record(id_, number, event))
        if data.draw(st.booleans()):  # a slow reader looks only now and then
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
def test_where_nothing_is_lost_nothing_is_begun_anew(data: st.DataObject) -> None:
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


def test_after_a_gap_nothing_more_is_shown_until_the_reply_makes_it_good() -> None:
    order = StreamAssembler()
    assert order.add(StreamPosition("s", 0), words("a")) == [words("a")]
    assert order.add(StreamPosition("s", 2), words("c")) == []
    assert order.add(StreamPosition("s", 1), words("b")) == []
    assert order.complete("abc", StreamPosition("s", 2)) == [Reset(reason=LOST), words("abc")]


def test_the_last_event_that_is_missing_is_noticed_too() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words("a"))
    assert order.complete("ab", StreamPosition("s", 1)) == [Reset(reason=LOST), words("ab")]


def test_a_stream_that_is_whole_and_says_something_else_does_not_count() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words(" a draft "))
    order.add(StreamPosition("s", 1), End())
    assert order.complete("a draft", StreamPosition("s", 1)) == []
    assert order.complete("the answer", StreamPosition("s", 1)) == [Reset(reason=DIFFERS), words("the answer")]


def test_a_stream_that_was_taken_back_and_says_nothing_does_not_count() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), Reset(reason="not grounded"))
    assert order.complete("the answer", StreamPosition("s", 0)) == [words("the answer")]


def test_another_attempt_begins_anew_and_the_first_does_not_come_back() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("first", 0), words("a"))
    assert order.add(StreamPosition("second", 0), words("b")) == [Reset(reason=RESTARTED), words("b")]
    assert order.add(StreamPosition("first", 1), words("a")) == []
    assert order.complete("b", StreamPosition("second", 0)) == []


def test_a_reset_that_is_sent_is_not_made_as_well() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("model", 0), words("a"))
    reset = Reset(reason="not grounded", rung="extractive")
    assert order.add(StreamPosition("mine", 0), reset) == [reset]


def test_an_attempt_without_words_takes_those_of_the_one_before_back() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("first", 0), words("a"))
    assert order.add(StreamPosition("second", 0), End()) == [Reset(reason=RESTARTED)]
    assert order.complete("", StreamPosition("second", 0)) == []


def test_a_reply_that_names_no_stream_has_the_text_that_counts() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("s", 0), words("a"))
    assert order.complete("a", None) == [Reset(reason=RESTARTED), words("a")]
    assert StreamAssembler().complete("a", None) == [words("a")]
    assert StreamAssembler().complete(None, None) == []


def test_a_stream_that_comes_after_the_end_is_not_followed() -> None:
    order = StreamAssembler()
    order.add(StreamPosition("mine", 0), words("b"))
    order.add(StreamPosition("mine", 1), End())
    assert order.add(StreamPosition("late", 0), words("a")) == []
    assert order.complete("b", StreamPosition("mine", 1)) == []


def test_endless_attempts_are_not_remembered_for_ever() -> None:
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
def test_an_event_that_cannot_be_read_is_a_gap(broken: Record) -> None:
    reading = Reading()
    reading.reader.receive(record("s", 0, words("a")))
    reading.reader.receive(broken)
    reading.reader.receive(record("s", 2, words("c")))
    reading.reader._put(reading.reader._assembler.complete("abc", StreamPosition("s", 2)))
    reading.read()
    assert (reading.shown, reading.resets) == ("abc", [LOST])


def test_events_are_told_from_replies() -> None:
    assert is_event(record("s", 0, words("a")))
    assert is_event(record("s", 0, words("a"), kind="delta/9"))
    assert not is_event(record("s", 0, reply("a")))
    assert not is_event(record("s", 0, reply("a"), kind="fault/1"))


# -- memory ------------------------------------------------------------------------------------------------------------


def test_words_that_wait_are_one_event() -> None:
    reader = StreamReader()
    for number in range(1_000):
        reader.receive(record("s", number, words("ab")))
    assert reader._pop() == words("ab" * 1_000)
    assert reader._pop() is None


def test_words_that_do_not_count_any_more_do_not_wait() -> None:
    reader = StreamReader()
    reader.receive(record("s", 0, words("a" * 1_000)))
    reader.receive(record("t", 0, Reset(reason="why")))
    reader.receive(record("t", 1, words("b")))
    assert [reader._pop(), reader._pop(), reader._pop()] == [Reset(reason="why"), words("b"), None]


async def test_an_endless_stream_that_nobody_reads_is_let_go_and_the_reply_has_the_text() -> None:
    reader, piece = StreamReader(), "a" * 10_000
    for number in range(3 * MAX_UNREAD_CHARS // len(piece)):
        reader.receive(record("s", number, words(piece)))
        assert reader._chars <= MAX_UNREAD_CHARS
        assert sum(map(len, reader._text)) == reader._chars
    await reader.on_reply(reply("all"), StreamPosition("s", 3 * MAX_UNREAD_CHARS // len(piece) - 1))
    reader.close()
    assert [event async for event in reader] == [Reset(reason=LOST), words("all")]


async def test_a_reply_without_words_needs_none() -> None:
    reader = StreamReader()
    await reader.on_reply(Passages(passages=(), epoch="e"), None)
    reader.close()
    assert [event async for event in reader] == []
