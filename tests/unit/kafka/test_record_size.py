"""Sizes: a record is measured as Kafka does, and an unknown limit of a topic is assumed to be small."""

import asyncio
from collections.abc import Collection, Mapping

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.topics import MAX_RECORD_BYTES, MIB, RECORDS
from poise.errors import UnavailableError
from poise.kafka import record_size
from poise.kafka.record_size import TopicLimits, default_limit, size_of

FOREIGN = "mine"


@given(
    key=st.none() | st.binary(max_size=300),
    value=st.binary(max_size=3_000),
    headers=st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=200)), max_size=20),
)
def test_the_estimated_size_is_never_below_that_of_the_batch(
    key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1)
    batch.append(0, 1_700_000_000_000, key=key, value=value, headers=list(headers))
    written = len(batch.build())
    assert written <= size_of(key, value, headers) <= written + 30


@pytest.mark.parametrize(
    ("topic", "limit"),
    [
        (RECORDS.name, MIB),
        ("poise.inference.dead", 3 * MIB),
        ("poise.translation.dead", 3 * MIB),
        ("poise.translation.requests.batch", MIB),
        (FOREIGN, MIB),
        ("poise.nobody-knows-it", MIB),
    ],
)
def test_the_default_limit_of_a_topic(topic: str, limit: int) -> None:
    assert default_limit(topic) == limit


class LimitsBroker:
    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.lookups: list[set[str]] = []
        self.away = False

    async def describe(self, names: Collection[str]) -> Mapping[str, int]:
        self.lookups.append(set(names))
        if self.away:
            raise UnavailableError("away")
        return {name: self.limits[name] for name in names if name in self.limits}


async def test_a_limit_is_fetched_once() -> None:
    broker = LimitsBroker(mine=20_000, large=100 * MIB)
    limits = TopicLimits(broker.describe)
    assert [await limits.limit(FOREIGN) for _ in range(3)] == [20_000] * 3
    assert await limits.limit("large") == MAX_RECORD_BYTES  # the largest record that is ever sent
    assert await limits.limit("secret") == MIB
    assert await limits.limit("secret") == MIB
    assert broker.lookups == [{FOREIGN}, {"large"}, {"secret"}]


async def test_an_unavailable_broker_is_asked_again_and_cached_limits_stay() -> None:
    broker = LimitsBroker(mine=20_000)
    limits = TopicLimits(broker.describe)
    broker.away = True
    assert await limits.limit(FOREIGN) == MIB
    broker.away = False
    assert await limits.limit(FOREIGN) == 20_000
    broker.away = True
    await limits.load([FOREIGN])
    assert await limits.limit(FOREIGN) == 20_000


async def test_a_limit_that_an_operator_changes_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = LimitsBroker(mine=20_000)
    limits = TopicLimits(broker.describe)
    await limits.load()
    await limits.limit(FOREIGN)
    broker.limits[FOREIGN] = 10_000
    await limits.refresh()
    assert await limits.limit(FOREIGN) == 20_000
    monkeypatch.setattr(record_size, "REFRESH_INTERVAL", -1.0)
    await limits.refresh()
    assert await limits.limit(FOREIGN) == 10_000


async def test_a_rejected_size_applies_until_the_broker_reports_a_limit() -> None:
    broker = LimitsBroker()
    limits = TopicLimits(broker.describe)
    await limits.limit(FOREIGN)
    await limits.note_rejected(FOREIGN, 5_000, alone=False)  # batched with others: it may fit alone
    assert await limits.limit(FOREIGN) == MIB
    await asyncio.gather(*(limits.note_rejected(FOREIGN, size, alone=True) for size in (7_000, 5_000, 6_000)))
    assert await limits.limit(FOREIGN) == 4_999
    broker.limits[FOREIGN] = 10_000
    await limits.load([FOREIGN])
    assert await limits.limit(FOREIGN) == 10_000


async def test_the_limits_of_foreign_topics_are_bounded_in_memory() -> None:
    limits = TopicLimits(LimitsBroker().describe)
    await limits.load()
    for number in range(3 * record_size.MAX_TOPICS):
        await limits.limit(f"mine-{number}")
    assert len(limits.known) <= record_size.MAX_TOPICS + 1
    assert RECORDS.name in limits.known
