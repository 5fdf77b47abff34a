"""Rung outcome: the answer of a rung of the ladder, or why the rung was skipped."""

from dataclasses import dataclass

from poise.contracts import Citation, Rung
from poise_services.orchestration.cache_hints import EarlierAnswer


@dataclass(frozen=True, slots=True)
class RungResult:
    """The answer of a rung that applies."""

    rung: Rung
    text: str
    citations: tuple[Citation, ...] = ()
    variant: str | None = None
    """The variant that wrote the text; None = no model did."""
    earlier: EarlierAnswer | None = None
    """The earlier answer that is used."""
    reason: str | None = None
    """Why it is not the first rung."""


@dataclass(frozen=True, slots=True)
class RungSkipped:
    """A rung that does not apply."""

    reason: str | None = None
    """Why; None = not worth mentioning."""
