"""Seen: one answer of a variant, as the detectors see it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """One answer of the variant that was drawn for it."""

    run: str
    variant: str
    probability: float
    """With which it was drawn; decided before the answer was known."""
    at: float
    """When the run finished, unix seconds."""
    loss: float | None = None
    """1 minus the score that steers, 0 to 1; 1 where it brought a fault; None = not known."""
    over_latency: bool | None = None
    """Whether it took longer than the ceiling; None = not known, or there is no ceiling."""
    over_cost: bool | None = None
    """Whether it cost more than the ceiling."""
    question: str | None = None
    """A digest of the question. One that is asked of a variant again and again, because its answers are not kept, would
    else count again and again."""
    started: float | None = None
    """When the run began, unix seconds: it is compared with what else was asked at that time, so that a slow variant is
    not compared with later traffic; None = as `at`."""
    weights: Mapping[str, float] | None = None
    """The probabilities of all variants in that draw. None = not known: with two variants they follow from
    `probability`; with more, the answer is then not compared with those of others."""
