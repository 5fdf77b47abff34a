"""Dead letters: kept whole, listed, sent again once."""

import pytest

from poise.errors import TerminalError
from poise.messaging import dead_letters
from poise.messaging.record import Position, Record


class Topics:
    """An append-only log per topic, as much of a broker as dead letters need."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: list[tuple[str, bytes]],
        partition: int | None = None,
    ) -> Position:
        record = Record(topic, partition or 0, len(self.records), 1.0, key, value, tuple(headers))
        self.records.append(record)
        return record.position

    def of(self, topic: str) -> list[Record]:
        return [record for record in self.records if record.topic == topic]


HEADERS = (("x", b"1"), ("x", b"\xff"), ("reply_to", b"mine"), ("poise-deadline", b"5"), ("poise-run", b"r"))
BROKEN = Record("poise.retrieval.requests.interactive", 3, 42, 1.0, b"k", b"\x00not json", HEADERS)


async def partition_of(_topic: str, _key: bytes) -> int:
    return 3


async def kept(topics: Topics, record: Record = BROKEN) -> list[dead_letters.DeadLetter]:
    await dead_letters.write(topics.send, "retrieval", record, ValueError("no"), attempt=2, worker="w-1")
    return dead_letters.read("retrieval", topics.of("poise.retrieval.dead"))


async def test_the_message_is_kept_whole_with_its_reason() -> None:
    (letter,) = await kept(Topics())
    assert (letter.record.key, letter.record.value) == (BROKEN.key, BROKEN.value)
    assert [item for item in letter.headers if item in HEADERS] == list(HEADERS)
    assert (letter.error, letter.message, letter.topic) == ("ValueError", "no", BROKEN.topic)
    assert letter.record.header("poise-origin") == "poise.retrieval.requests.interactive/3/42"
    assert letter.record.header("poise-attempt") == "2"
    assert "ValueError: no" in (letter.record.header(dead_letters.TRACEBACK) or "")


async def test_a_null_value_stays_null() -> None:
    (letter,) = await kept(Topics(), Record("poise.records", 0, 1, 1.0, b"k", None))
    assert letter.record.value is None


async def test_it_is_sent_again_once_without_its_waiter() -> None:
    topics = Topics()
    (letter,) = await kept(topics)
    sent = await dead_letters.redrive(topics.send, letter, partition_of)
    (again,) = topics.of(BROKEN.topic)
    names = [name for name, _ in again.headers]
    assert again.position == sent
    assert (again.key, again.value, again.partition) == (BROKEN.key, BROKEN.value, 3)
    assert not {"reply_to", "poise-deadline", "poise-attempt", dead_letters.ERROR} & set(names)
    assert again.header("poise-redrives") == "1"
    assert again.header("poise-origin") == "poise.retrieval.requests.interactive/3/42"
    (letter,) = dead_letters.read("retrieval", topics.of("poise.retrieval.dead"))
    assert letter.redriven == str(sent)
    with pytest.raises(TerminalError, match="already"):
        await dead_letters.redrive(topics.send, letter, partition_of)


async def test_a_letter_from_a_topic_that_is_not_ours_stays() -> None:
    (letter,) = await kept(Topics(), Record("theirs", 0, 1, 1.0, b"k", b"v"))
    with pytest.raises(TerminalError, match="no topic of Poise's"):
        await dead_letters.redrive(Topics().send, letter, partition_of)
