"""Seen: one answer of a variant, as the detectors see it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of the variant that was drawn for it."""

    run: str
    variant: str
    probability: float
    """With which it was drawn; decided before the answer was known."""
    at: float
    """When the run finished, unix seconds."""
    bad: float | None = None
    """1 minus the score that steers, 0 to 1; 1 where it brought a fault; None = not known."""
    slow: bool | None = None
    """Whether it took longer than the ceiling; None = not known, or there is no ceiling."""
    dear: bool | None = None
    """Whether it cost more than the ceiling."""
    question: str | None = None
    """A digest of the question. One that is asked of a variant again and again, because its answers are not kept, would
    else count again and again."""
