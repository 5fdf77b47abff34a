"""Dead letter filter: selects dead letters to list, redrive or purge. No clock, no I/O."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from poise.contracts.fault import FieldError
from poise.contracts.topics import DAY, HOUR
from poise.dead_letters.model import DeadLetter, indexed_key
from poise.errors import InvalidMessageError

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": HOUR, "d": DAY, "w": 7 * DAY}
_NUMBER: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_PART: Final = rf"{_NUMBER}([smhdw])"
_DURATION: Final = re.compile(f"(?:{_PART})+")
DURATION_PATTERN: Final = r"^(?:[0-9]{1,9}(?:\.[0-9]{1,9})?[smhdw])+$"
"""The durations that `parse_duration` reads, as a pattern for JSON Schemas."""
_RATE: Final = re.compile(rf"{_NUMBER}(?:/([smhd]))?")
ID_PATTERN: Final = r"^[a-z][a-z0-9-]{0,39}/[0-9]{1,9}/[0-9]{1,18}$"
"""The form of an id, `tier/partition/offset`, as a pattern for JSON Schemas too."""
_ID: Final = re.compile(ID_PATTERN[1:-1])


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects the dead letters that match all given criteria."""

    tier: str | None = None
    error: str | None = None
    """The error's type."""
    tenant: str | None = None
    key: bytes | None = None
    older_than: float | None = None
    """Seconds since the message was dead-lettered."""
    newer_than: float | None = None
    """Seconds since the message was dead-lettered."""
    ids: frozenset[str] = frozenset()
    """`tier/partition/offset`; empty = any."""

    def __post_init__(self) -> None:
        """Refuse criteria that no dead letter can match.

        Raises:
            InvalidMessageError: An id is malformed, or the range of ages is empty.
        """
        if wrong := sorted(id_ for id_ in self.ids if not _ID.fullmatch(id_)):
            raise invalid_field("ids", f"{wrong[0][:80]!r} is not an id: give tier/partition/offset")
        if None not in {self.older_than, self.newer_than} and (self.older_than or 0) >= (self.newer_than or 0):
            raise invalid_field("older_than", "no dead letter is older than this and newer than `newer_than`")

    @property
    def has_criteria(self) -> bool:
        """Whether any criterion is given."""
        return self != DeadLetterFilter()

    def tiers(self, known: Iterable[str]) -> list[str]:
        """Return the known tiers that may have matching dead letters.

        Raises:
            InvalidMessageError: A named tier is unknown.
        """
        known = sorted(known)
        named = {id_.partition("/")[0] for id_ in self.ids} | ({self.tier} if self.tier else set())
        if unknown := sorted(named - set(known)):
            raise invalid_field("tier", f"{unknown[0][:80]!r} has no dead letters: choose one of {', '.join(known)}")
        return [tier for tier in known if tier in (named or known) and self.tier in {None, tier}]

    def matches(self, entry: DeadLetter, now: float, tenant: str) -> bool:
        """Return whether a dead letter matches.

        Args:
            entry: The dead letter.
            now: Unix seconds.
            tenant: The tenant of dead letters that name none.
        """
        age = now - entry.dead_lettered_at
        return (
            self.tier in {None, entry.tier}
            and self.error in {None, entry.error}
            and self.tenant in {None, entry.tenant or tenant}
            and (self.key is None or indexed_key(self.key) == indexed_key(entry.record.key))
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (not self.ids or not self.ids.isdisjoint(entry.ids))
        )


def parse_duration(text: str) -> float:
    """Parse a duration, in seconds: `30s`, `10m`, `2h`, `7d`, `1d12h`.

    Raises:
        ValueError: The text is not a duration.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a duration: give 30s, 10m, 2h, 7d or 1d12h")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))


def parse_rate(text: str) -> float:
    """Parse a rate, per second: `10`, `10/s`, `100/m`, `1000/h`.

    Raises:
        ValueError: The text is not a rate.
    """
    found = _RATE.fullmatch(text)
    if not found or not float(found[1]):
        raise ValueError(f"{text[:40]!r} is not a rate: give 10/s, 100/m or 1000/h")
    return float(found[1]) / _UNITS[found[2] or "s"]


def invalid_field(field: str, detail: str) -> InvalidMessageError:
    """Return the error that refuses a field."""
    return InvalidMessageError(f"{field}: {detail}", [FieldError(field=field, detail=detail)])
