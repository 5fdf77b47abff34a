"""Which dead letters a filter selects."""

import pytest

from poise.dead_letters.filter import DeadLetterFilter, parse_duration, parse_rate
from poise.dead_letters.model import DeadLetter
from poise.errors import InvalidMessageError
from poise.kafka.record import Position, Record

NOW = 10_000.0


def letter(
    *, tier: str = "inference", topic: str = "poise.inference.requests.batch", key: bytes | None = b"k"
) -> DeadLetter:
    headers = (
        ("poise-tenant", b"acme"),
        ("poise-dead-topic", topic.encode()),
        ("poise-dead-error", b"TypeError"),
    )
    record = Record(f"poise.{tier}.dead", 0, 5, NOW - 60, key, b"v", headers)
    return DeadLetter(tier, record, None, (Position(f"poise.{tier}.dead", 0, 7),))


@pytest.mark.parametrize(
    ("chosen", "fits"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(tier="inference"), True),
        (DeadLetterFilter(tier="retrieval"), False),
        (DeadLetterFilter(error="TypeError"), True),
        (DeadLetterFilter(error="Type"), False),
        (DeadLetterFilter(tenant="acme"), True),
        (DeadLetterFilter(tenant="default"), False),
        (DeadLetterFilter(key=b"k"), True),
        (DeadLetterFilter(key=b""), False),
        (DeadLetterFilter(older_than=59), True),
        (DeadLetterFilter(older_than=60), False),
        (DeadLetterFilter(newer_than=61), True),
        (DeadLetterFilter(newer_than=60), False),
        (DeadLetterFilter(older_than=30, newer_than=90), True),
        (DeadLetterFilter(ids=frozenset({"inference/0/5"})), True),
        (DeadLetterFilter(ids=frozenset({"inference/0/7"})), True),
        (DeadLetterFilter(ids=frozenset({"inference/0/6", "retrieval/0/5"})), False),
        (DeadLetterFilter(tier="inference", error="TypeError", tenant="acme", key=b"k", older_than=1), True),
        (DeadLetterFilter(tier="inference", error="KeyError", tenant="acme", key=b"k", older_than=1), False),
    ],
)
def test_dead_letter_matches_if_it_meets_all_criteria(chosen: DeadLetterFilter, fits: bool) -> None:
    assert chosen.matches(letter(), NOW, "default") is fits


def test_tenant_of_an_untrusted_topic_is_the_default_tenant() -> None:
    asked = letter(tier="orchestration", topic="poise.ask.batch")
    assert not DeadLetterFilter(tenant="acme").matches(asked, NOW, "default")
    assert DeadLetterFilter(tenant="default").matches(asked, NOW, "default")


def test_dead_letter_without_a_key_matches_no_key() -> None:
    assert not DeadLetterFilter(key=b"").matches(letter(key=None), NOW, "default")


def test_filter_has_criteria_only_if_it_excludes_entries() -> None:
    assert not DeadLetterFilter().has_criteria
    assert DeadLetterFilter(older_than=0.0).has_criteria
    assert DeadLetterFilter(key=b"").has_criteria


@pytest.mark.parametrize(
    ("chosen", "tiers"),
    [
        (DeadLetterFilter(), ["a", "b", "c"]),
        (DeadLetterFilter(tier="b"), ["b"]),
        (DeadLetterFilter(ids=frozenset({"c/0/1", "a/0/1"})), ["a", "c"]),
        (DeadLetterFilter(tier="a", ids=frozenset({"c/0/1", "a/0/1"})), ["a"]),
    ],
)
def test_filter_selects_the_tiers_to_read(chosen: DeadLetterFilter, tiers: list[str]) -> None:
    assert chosen.tiers(["c", "a", "b"]) == tiers


@pytest.mark.parametrize("chosen", [DeadLetterFilter(tier="x"), DeadLetterFilter(ids=frozenset({"x/0/1"}))])
def test_unknown_tier_is_reported(chosen: DeadLetterFilter) -> None:
    with pytest.raises(InvalidMessageError, match="'x' has no dead letters: choose one of a, b"):
        chosen.tiers(["b", "a"])


@pytest.mark.parametrize("id_", ["", "a", "a/b/c", "a/0", "a/0/1/2", "a/0/-1", "a/0/9999999999999999999"])
def test_invalid_id_is_rejected(id_: str) -> None:
    with pytest.raises(InvalidMessageError, match="tier/partition/offset"):
        DeadLetterFilter(ids=frozenset({id_}))


def test_empty_age_interval_is_rejected() -> None:
    with pytest.raises(InvalidMessageError, match="older_than"):
        DeadLetterFilter(older_than=60, newer_than=60)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7_200), ("7d", 604_800), ("1w", 604_800), ("1d12h", 129_600), ("1.5h", 5_400)],
)
def test_parse_duration_returns_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "h", "-1h", "1 h", "1H", "1y", "1h30", "9" * 5_000 + "s", "٣s"])
def test_parse_duration_rejects_invalid_durations(text: str) -> None:
    with pytest.raises(ValueError, match="give 30s, 10m, 2h, 7d or 1d12h"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "rate"), [("10", 10), ("10/s", 10), ("120/m", 2), ("1800/h", 0.5), ("0.5/s", 0.5)])
def test_parse_rate_returns_a_rate_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0/s", "-1", "fast", "10/x", "10/", "1e3", "٣/s"])
def test_parse_rate_rejects_invalid_rates(text: str) -> None:
    with pytest.raises(ValueError, match="give 10/s, 100/m or 1000/h"):
        parse_rate(text)
