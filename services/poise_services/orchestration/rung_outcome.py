"""Rung outcome: the answer of a rung of the ladder, or why there is none."""

from dataclasses import dataclass

from poise.contracts import Citation, Rung
from poise_services.orchestration.cache_hints import EarlierAnswer


@dataclass(frozen=True, slots=True)
class RungResult:
    """The answer of a rung."""

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
class NoAnswer:
    """Why a rung, or one of the variants that it asks, gives no answer: it does not apply, failed, or was rejected."""

    reason: str | None = None
    """None = not worth mentioning."""
