"""The AIPW contrast: a variant against the others, estimated from one answer and its draw. No clock, no I/O."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Self

MAX_PAYOFF: Final = 30.0
"""No answer multiplies the wealth of a bet by more than 1 + this: none decides alone, even if rarely drawn."""


class AipwContrast(NamedTuple):
    """An unbiased estimate, from one answer, of how much worse a variant is than others.

    Augmented inverse propensity weighting: (Y - m)/p if it was the variant's, -(Y - m)/q if it was one of the
    others', which have q together; m is any value known beforehand (Waudby-Smith et al., "Anytime-valid off-policy
    inference for contextual bandits", 2024; Ham et al., "Design-based anytime-valid causal inference", 2022). Because
    the draw is random, neither the quality of answers at that time nor earlier moves of the weights matter.
    """

    value: float
    least: float
    most: float
    """`least` and `most` are the bounds of the value, known before the answer."""

    @classmethod
    def of(
        cls,
        variant: str,
        others: Collection[str],
        shares: Mapping[str, float],
        *,
        drawn: str,
        loss: float,
        mean: float,
    ) -> Self | None:
        """Return the estimate from an answer; None = the answer says nothing about the variant."""
        own = shares.get(variant, 0.0)
        rest = 0.0
        for other in others:
            rest += shares.get(other, 0.0)
        if own <= 0.0 or rest <= 0.0 or (drawn != variant and drawn not in others):
            return None
        value = (loss - mean) / own if drawn == variant else (mean - loss) / rest
        return cls(value, -max(mean / own, (1.0 - mean) / rest), max((1.0 - mean) / own, mean / rest))

    @property
    def payoff_if_worse(self) -> float:
        """A bet's payoff, -1 or more: above zero on average if the variant is worse."""
        return self.value / max(-self.least, self.most / MAX_PAYOFF)

    def payoff_if_non_inferior(self, margin: float) -> float:
        """Return a bet's payoff, -1 or more: above zero on average if the variant is worse by less than the margin."""
        return (margin - self.value) / max(self.most - margin, (margin - self.least) / MAX_PAYOFF)


def payoff_above(value: float, bound: float) -> float:
    """Return a bet's payoff, -1 or more: above zero on average if a value of 0 to 1 is above the bound on average."""
    return (value - bound) / max(bound, (1.0 - bound) / MAX_PAYOFF)


def payoff_below(value: float, bound: float) -> float:
    """Return a bet's payoff, -1 or more: above zero on average if a value of 0 to 1 is below the bound on average."""
    return (bound - value) / max(1.0 - bound, bound / MAX_PAYOFF)
