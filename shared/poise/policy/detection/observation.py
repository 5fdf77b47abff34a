"""An observation: one answer of a variant, as the detectors see it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """One answer of the variant that was drawn for it."""

    run: str
    variant: str
    probability: float
    """Of its draw; known before the answer."""
    finished_at: float
    """When the run finished, unix seconds."""
    loss: float | None = None
    """1 minus the score that steers, 0 to 1; 1 for a fault; None = not known."""
    over_latency: bool | None = None
    """Whether it took longer than the latency ceiling; None = not known, or no ceiling."""
    over_cost: bool | None = None
    """Whether it cost more than the cost ceiling; None = not known, or no ceiling."""
    question: str | None = None
    """A digest of the question. Without it, a question that is repeated because its answers are not cached would count
    each time."""
    started_at: float | None = None
    """When the run began, unix seconds. The answer is compared with others of that time, so that a slow variant is not
    compared with later traffic; None = `finished_at`."""
    shares: Mapping[str, float] | None = None
    """The shares of all variants in that draw. None = not known: with two variants they follow from
    `probability`; with more, the answer is then not compared with those of others."""
