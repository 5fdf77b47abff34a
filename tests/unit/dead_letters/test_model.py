"""Dead letters are kept complete, read with their outcome, and sent again without headers that no longer apply."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.contracts.headers import DEAD_CUT, DEAD_POSITION, DEAD_PURGED, DEAD_REDRIVEN, DEAD_TOPIC, DEAD_TRACEBACK
from poise.dead_letters import model
from poise.dead_letters.filter import DeadLetterFilter
from poise.dead_letters.model import DeadLetter, DeadLetterIndex, DeadLetterState, marker
from poise.dead_letters.redrive_plan import (
    RedriveOptions,
    batches,
    first_needed_offsets,
    redrive_headers,
    refusal_reason,
)
from poise.errors import InvalidMessageError, RecordTooLargeError
from poise.kafka.record import Headers, Position, Record
from poise.kafka.record_batch import MAX_HEADERS
from poise.kafka.record_size import size_of

TOPIC = "poise.retrieval.requests.interactive"
DEAD = "poise.retrieval.dead"


class DeadLetterTopics:
    """An append-only log per topic: the part of a broker that dead letters need."""

    def __init__(self, limit: int = 3_000_000) -> None:
        self.records: list[Record] = []
        self.limit = limit

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> Position:
        if (size := size_of(key, value, headers)) > self.limit:
            raise RecordTooLargeError(topic, size, self.limit)
        record = Record(topic, partition or 0, len(self.records), 1.0, key, value, tuple(headers))
        self.records.append(record)
        return record.position

    async def mark(self, letter: DeadLetter, name: str, value: str) -> None:
        key, empty, headers = marker(letter.record.position, name, value)
        await self.send(DEAD, empty, key=key, headers=headers)

    def dead_letters(self) -> list[DeadLetter]:
        return model.read("retrieval", [record for record in self.records if record.topic == DEAD])


HEADERS = (
    ("x", b"1"),
    ("x", b"\xff"),
    ("reply_to", b"mine"),
    ("correlation_id", b"c"),
    ("poise-reply-partition", b"2"),
    ("poise-stream-to", b"mine/0/c"),
    ("poise-deadline", b"5000"),
    ("poise-run", b"r"),
)
WAITER = {"reply_to", "correlation_id", "poise-reply-partition", "poise-stream-to"}
BROKEN = Record(TOPIC, 3, 42, 1.0, b"k", b"\x00not json", HEADERS)


NAMES = st.sampled_from(["x", "poise-run", "poise-origin", "poise-dead-error", "n" * 100_000])


async def written_dead_letter(topics: DeadLetterTopics, record: Record = BROKEN) -> DeadLetter:
    await model.write_dead_letter(topics.send, "retrieval", record, ValueError("no"), attempt=2, worker="w-1")
    return topics.dead_letters()[-1]


async def test_dead_letter_has_the_complete_message_and_its_reason() -> None:
    letter = await written_dead_letter(DeadLetterTopics())
    assert (letter.record.key, letter.record.value) == (BROKEN.key, BROKEN.value)
    assert [item for item in letter.headers if item in HEADERS] == list(HEADERS)
    assert (letter.error, letter.error_message, letter.topic) == ("ValueError", "no", BROKEN.topic)
    assert letter.record.header("poise-origin") == letter.failed_position == f"{TOPIC}/3/42"
    assert letter.record.header("poise-attempt") == "2"
    assert "ValueError: no" in (letter.record.header(DEAD_TRACEBACK) or "")


async def test_reason_is_truncated_and_a_rejection_has_no_traceback() -> None:
    topics = DeadLetterTopics()
    error = InvalidMessageError("x" * 3_000_000)
    await model.write_dead_letter(topics.send, "retrieval", BROKEN, error, attempt=1, worker="w-1")
    (letter,) = topics.dead_letters()
    assert sum(len(value or b"") for _, value in letter.record.headers) < 25_000
    assert "line" not in (letter.record.header(DEAD_TRACEBACK) or "")


@given(
    key=st.none() | st.integers(0, 5_000_000).map(lambda length: b"k" * length),
    value=st.integers(0, 5_000_000).map(lambda length: b"v" * length),
    headers=st.lists(st.tuples(NAMES, st.integers(0, 2_000_000)), max_size=30),
    limit=st.sampled_from([2_000, 20_000, 1_000_000, 3_145_728]),
)
@settings(max_examples=50)
async def test_dead_letter_always_fits_its_topic(
    key: bytes | None, value: bytes, headers: list[tuple[str, int]], limit: int
) -> None:
    """Try messages larger than any record, as decompressed ones may be, and topics with a low limit."""
    topics = DeadLetterTopics(limit)
    raw = tuple((name, b"h" * length) for name, length in headers)
    letter = await written_dead_letter(topics, Record(TOPIC, 3, 42, 1.0, key, value, raw))
    assert (letter.error, letter.error_message, letter.topic, letter.failed_position) == (
        "ValueError",
        "no",
        TOPIC,
        f"{TOPIC}/3/42",
    )
    assert value.startswith(letter.record.value or b"")
    cut = letter.record.header(DEAD_CUT)
    assert cut in {None, str(len(value))}
    if cut is None:
        assert (letter.record.key, letter.record.value) == (key, value)


@pytest.mark.parametrize("limit", [3_000_000, 20_000])
@pytest.mark.parametrize("count", [MAX_HEADERS - 20, MAX_HEADERS])
async def test_a_dead_letter_has_at_most_the_headers_that_a_record_may_have(count: int, limit: int) -> None:
    topics = DeadLetterTopics(limit)
    letter = await written_dead_letter(topics, Record(TOPIC, 3, 42, 1.0, b"k", b"v", (("h", b""),) * count))
    assert len(letter.record.headers) <= MAX_HEADERS
    assert (letter.error, letter.failed_position) == ("ValueError", f"{TOPIC}/3/42")
    truncated = limit == 20_000 or count == MAX_HEADERS
    assert letter.record.header(DEAD_CUT) == ("1" if truncated else None)
    assert letter.record.value == b"v"


async def test_null_value_stays_null() -> None:
    letter = await written_dead_letter(DeadLetterTopics(), Record("poise.records", 0, 1, 1.0, b"k", None))
    assert letter.record.value is None


async def test_markers_record_redrives_and_purges() -> None:
    topics = DeadLetterTopics()
    first = await written_dead_letter(topics)
    second = await written_dead_letter(topics, Record(TOPIC, 3, 43, 1.0, b"k", b"v"))
    await topics.mark(first, DEAD_REDRIVEN, f"{TOPIC}/3/50")
    assert [(letter.id, letter.state, letter.redriven) for letter in topics.dead_letters()] == [
        (first.id, DeadLetterState.REDRIVEN, f"{TOPIC}/3/50"),
        (second.id, DeadLetterState.DEAD, None),
    ]
    await topics.mark(second, DEAD_PURGED, "1.000")
    assert [letter.id for letter in topics.dead_letters()] == [first.id]


async def test_message_dead_lettered_twice_by_redelivery_is_one_entry() -> None:
    topics = DeadLetterTopics()
    first, again = await written_dead_letter(topics), await written_dead_letter(topics)
    assert [letter.ids for letter in topics.dead_letters()] == [{"retrieval/0/0", "retrieval/0/1"}]
    assert first.id == again.id == "retrieval/0/0"
    await topics.mark(again, DEAD_REDRIVEN, f"{TOPIC}/3/50")
    assert [letter.state for letter in topics.dead_letters()] == [DeadLetterState.REDRIVEN]
    await written_dead_letter(topics)
    assert [letter.state for letter in topics.dead_letters()] == [DeadLetterState.REDRIVEN], (
        "a copy that comes later is the same too"
    )


@pytest.mark.parametrize("name", [DEAD_REDRIVEN, DEAD_PURGED, DEAD_POSITION, DEAD_TOPIC])
async def test_forged_message_is_not_taken_for_a_marker(name: str) -> None:
    topics = DeadLetterTopics()
    await written_dead_letter(topics)
    forged = Record(TOPIC, 3, 43, 1.0, f"{DEAD}/0/0".encode(), b"v", ((name, f"{TOPIC}/3/42".encode()),))
    await written_dead_letter(topics, forged)
    assert [(letter.topic, letter.state, letter.duplicates) for letter in topics.dead_letters()] == [
        (TOPIC, DeadLetterState.DEAD, ())
    ] * 2


@pytest.mark.parametrize(
    ("written", "redrives", "state"),
    [
        (None, 0, DeadLetterState.DEAD),
        (b"2", 2, DeadLetterState.DEAD),
        (b"3", 3, DeadLetterState.QUARANTINED),
        (b"40", 40, DeadLetterState.QUARANTINED),
        (b"many", 0, DeadLetterState.DEAD),
        (b"9" * 5_000, 0, DeadLetterState.DEAD),
        ("²".encode(), 0, DeadLetterState.DEAD),
    ],
)
async def test_message_redriven_three_times_is_quarantined(
    written: bytes | None, redrives: int, state: DeadLetterState
) -> None:
    headers = () if written is None else (("poise-redrives", written),)
    letter = await written_dead_letter(DeadLetterTopics(), Record(TOPIC, 3, 42, 1.0, b"k", b"v", headers))
    assert (letter.redrives, letter.state) == (redrives, state)


# -- sending again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "dropped"),
    [
        (RedriveOptions(), WAITER | {"poise-deadline"}),
        (RedriveOptions(keep_reply_to=True), {"poise-deadline"}),
        (RedriveOptions(keep_deadline=True), WAITER),
        (RedriveOptions(keep_reply_to=True, keep_deadline=True), set()),
    ],
)
async def test_redriven_message_omits_outdated_headers(how: RedriveOptions, dropped: set[str]) -> None:
    letter = await written_dead_letter(DeadLetterTopics())
    headers = redrive_headers(letter, how)
    assert {name for name, _ in HEADERS} - {name for name, _ in headers} == dropped
    assert not any(name.startswith("poise-dead-") or name == "poise-attempt" for name, _ in headers)
    assert [value for name, value in headers if name == "x"] == [b"1", b"\xff"]
    assert dict(headers)["poise-redrives"] == b"1"
    assert dict(headers)["poise-origin"] == f"{TOPIC}/3/42".encode()


async def refused(
    letter: DeadLetter, how: RedriveOptions | None = None, newest: Mapping[tuple[str, bytes], Position] | None = None
) -> str | None:
    return refusal_reason(letter, how or RedriveOptions(), 10.0, newest or {}, [TOPIC, DEAD])


async def test_redrive_refusal_states_the_reason() -> None:
    topics = DeadLetterTopics()
    letter = await written_dead_letter(topics)
    assert await refused(letter) is None
    assert "5 s ago" in (await refused(letter, RedriveOptions(keep_deadline=True)) or "")
    later, same = Position(TOPIC, 3, 44), Position(TOPIC, 3, 42)
    assert "is an old version" in (await refused(letter, newest={(TOPIC, b"k"): later}) or "")
    assert await refused(letter, newest={(TOPIC, b"k"): same}) is None
    for theirs in ("theirs", "poise.gone"):
        assert "not a topic of Poise" in (
            await refused(await written_dead_letter(topics, Record(theirs, 0, 1, 1.0, b"k", b"v"))) or ""
        )
    await topics.mark(letter, DEAD_REDRIVEN, "somewhere/0/1")
    assert "sent again already, to somewhere/0/1" in (
        await refused(topics.dead_letters()[0], RedriveOptions(force=True)) or ""
    )


async def test_newest_version_is_the_copy_dead_lettered_last() -> None:
    headers = (("poise-origin", f"{TOPIC}/3/42".encode()), ("poise-redrives", b"1"))
    letter = await written_dead_letter(DeadLetterTopics(), Record(TOPIC, 3, 60, 1.0, b"k", b"v", headers))
    assert await refused(letter, newest={(TOPIC, b"k"): Position(TOPIC, 3, 60)}) is None


async def test_quarantined_entry_is_redriven_only_by_id_and_force() -> None:
    letter = await written_dead_letter(
        DeadLetterTopics(), Record(TOPIC, 3, 42, 1.0, b"k", b"v", (("poise-redrives", b"3"),))
    )
    assert "is quarantined: sent again 3 times" in (await refused(letter) or "")
    assert await refused(letter, RedriveOptions(force=True)) is None
    with pytest.raises(InvalidMessageError, match="needs the ids"):
        RedriveOptions(force=True).check(DeadLetterFilter(tier="retrieval"))
    RedriveOptions(force=True).check(DeadLetterFilter(ids=frozenset({"retrieval/0/1"})))


def some(number: int, size: int = 10) -> list[DeadLetter]:
    return [DeadLetter("t", Record(DEAD, 0, offset, 1.0, None, None), None, size=size) for offset in range(number)]


@pytest.mark.parametrize(
    ("letters", "rate", "alone", "sizes"),
    [
        (some(250), None, (), [100, 100, 50]),
        (some(5), 10.0, (), [1] * 5),
        (some(5), 20.0, (), [2, 2, 1]),
        (some(5), 0.1, (), [1] * 5),
        (some(5, 3 * 1024 * 1024), None, (), [1] * 5),
        (some(5), None, ("t/0/1", "t/0/2"), [1, 1, 1, 2]),
        ([], None, (), []),
    ],
)
def test_batches_follow_the_rate(
    letters: list[DeadLetter], rate: float | None, alone: tuple[str, ...], sizes: list[int]
) -> None:
    found = list(batches(letters, rate, frozenset(alone)))
    assert [len(batch) for batch in found] == sizes
    assert [letter for batch in found for letter in batch] == letters


def test_log_is_truncated_before_the_first_retained_entry() -> None:
    places = [letter.record.position for letter in some(8)[5:]]
    assert first_needed_offsets(places, {0: 20}) == {0: 5}
    assert first_needed_offsets([], {0: 20}) == {0: 20}
    assert first_needed_offsets([places[0], Position(DEAD, 0, 9)], {0: 20, 1: 3}) == {0: 5, 1: 3}


def test_index_holds_list_fields_and_no_message_bodies() -> None:
    log = DeadLetterIndex("retrieval")
    key = b"k" * 100_000
    headers = (*HEADERS, ("poise-dead-topic", TOPIC.encode()), ("poise-dead-error", b"ValueError"))
    many = (
        *headers,
        *((f"x-{number}", b"x" * 8_000) for number in range(100)),
        ("poise-dead-traceback", b"t" * 16_000),
    )
    log.add(Record(DEAD, 0, 7, 1.0, key, b"x" * 900_000, many))
    (letter,) = log.entries()
    assert (letter.id, letter.error, letter.topic, letter.size) == ("retrieval/0/7", "ValueError", TOPIC, 900_000)
    assert letter.record.value is None
    assert len(letter.record.key or b"") < 100
    assert sum(len(value or b"") for _, value in letter.record.headers) < 1_000
    assert DeadLetterFilter(key=key).matches(letter, 2.0, "default")
    assert not DeadLetterFilter(key=key + b"k").matches(letter, 2.0, "default")


def dead(offset: int, error: str, position: int, message: str = "") -> Record:
    told = {"topic": TOPIC, "error": error, "position": f"{TOPIC}/0/{position}", "message": message}
    headers = tuple((f"poise-dead-{name}", value.encode()) for name, value in told.items())
    return Record(DEAD, 0, offset, 1.0, b"k", b"{}", headers)


def test_index_holds_matching_entries_and_only_positions_of_others() -> None:
    log = DeadLetterIndex("retrieval", matches=lambda letter: letter.error == "ValueError")
    for offset, error in enumerate(["ValueError", "OSError", "OSError", "ValueError"]):
        log.add(dead(offset, error, offset))
    log.add(dead(4, "ValueError", 1))  # redelivered, it failed with another error
    log.add(dead(5, "ValueError", 0))
    key, empty, headers = marker(Position(DEAD, 0, 2), DEAD_PURGED, "1.0")
    log.add(Record(DEAD, 0, 6, 1.0, key, empty, tuple(headers)))
    assert [sorted(at.offset for at in letter.positions) for letter in log.entries()] == [[0, 5], [3], [1, 4]]
    assert {at.offset for at in log.positions()} == {0, 1, 3, 4, 5}
    assert b"OSError" not in log._interned, "of a letter that does not fit its place alone is kept"


def test_index_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MAX_INDEXED", 2)
    log = DeadLetterIndex("retrieval", matches=lambda letter: letter.error == "ValueError")
    for offset, error in enumerate(["ValueError", "OSError", "ValueError"]):
        log.add(dead(offset, error, offset, "é" * 4_000))
    assert {letter.error_message for letter in log.entries()} == {"é" * 250}
    with pytest.raises(InvalidMessageError, match="more than 2 dead letters of retrieval match: select fewer"):
        log.add(dead(3, "ValueError", 3))
