"""Filter: which dead letters are meant. The same for listing, sending again and purging. Pure."""

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
"""What `parse_duration` reads, as a pattern for JSON Schemas."""
_RATE: Final = re.compile(rf"{_NUMBER}(?:/([smhd]))?")
ID_PATTERN: Final = r"^[a-z][a-z0-9-]{0,39}/[0-9]{1,9}/[0-9]{1,18}$"
"""What a letter's id looks like, `tier/partition/offset`, as a pattern for JSON Schemas too."""
_ID: Final = re.compile(ID_PATTERN[1:-1])


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that fit everything that is given."""

    tier: str | None = None
    error: str | None = None
    """The error's type."""
    tenant: str | None = None
    key: bytes | None = None
    older_than: float | None = None
    """Seconds since it was set aside."""
    newer_than: float | None = None
    """Seconds since it was set aside."""
    ids: frozenset[str] = frozenset()
    """`tier/partition/offset`; empty = any."""

    def __post_init__(self) -> None:
        """Refuse what can name no letter.

        Raises:
            InvalidMessageError: An id has another form, or nothing can be of the age that is asked for.
        """
        if wrong := sorted(id_ for id_ in self.ids if not _ID.fullmatch(id_)):
            raise invalid_field("ids", f"{wrong[0][:80]!r} is no id: one reads tier/partition/offset")
        if None not in {self.older_than, self.newer_than} and (self.older_than or 0) >= (self.newer_than or 0):
            raise invalid_field("older_than", "nothing is older than that and newer than `newer_than`")

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return self != DeadLetterFilter()

    def tiers(self, known: Iterable[str]) -> list[str]:
        """The tiers, of those that are known, in which such letters may be.

        Raises:
            InvalidMessageError: One that is named is not known.
        """
        known = sorted(known)
        named = {id_.partition("/")[0] for id_ in self.ids} | ({self.tier} if self.tier else set())
        if unknown := sorted(named - set(known)):
            raise invalid_field("tier", f"{unknown[0][:80]!r} has no dead letters: there are {', '.join(known)}")
        return [tier for tier in known if tier in (named or known) and self.tier in {None, tier}]

    def fits(self, letter: DeadLetter, now: float, tenant: str) -> bool:
        """Whether a letter is meant.

        Args:
            letter: The letter.
            now: Unix seconds.
            tenant: Whose those are that do not say.
        """
        age = now - letter.at
        return (
            self.tier in {None, letter.tier}
            and self.error in {None, letter.error}
            and self.tenant in {None, letter.tenant or tenant}
            and (self.key is None or indexed_key(self.key) == indexed_key(letter.record.key))
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (not self.ids or not self.ids.isdisjoint(letter.ids))
        )


def parse_duration(text: str) -> float:
    """A span of time: `30s`, `10m`, `2h`, `7d`, `1d12h`.

    Raises:
        ValueError: It is none; says what one reads like.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no span of time: write 30s, 10m, 2h, 7d or 1d12h")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))


def parse_rate(text: str) -> float:
    """A rate: `10`, `10/s`, `100/m`, `1000/h`.

    Returns:
        How many a second.

    Raises:
        ValueError: It is none; says what one reads like.
    """
    found = _RATE.fullmatch(text)
    if not found or not float(found[1]):
        raise ValueError(f"{text[:40]!r} is no rate: write 10/s, 100/m or 1000/h")
    return float(found[1]) / _UNITS[found[2] or "s"]


def invalid_field(field: str, detail: str) -> InvalidMessageError:
    """What was given is refused."""
    return InvalidMessageError(f"{field}: {detail}", [FieldError(field=field, detail=detail)])
