"""Weights: how the shares of variants move, inside the limits that a person set. Pure."""

from collections.abc import Collection, Mapping

from poise.contracts.policy import Limits


def shares(weights: Mapping[str, float], limits: Limits) -> dict[str, float]:
    """The probabilities that weights mean: they sum to 1, and each that is not 0 is at least the exploration.

    Raises:
        ValueError: No weight is above zero, or there are too many variants for the exploration.
    """
    raise NotImplementedError


def away(
    now: Mapping[str, float], variant: str, others: Collection[str], target: Mapping[str, float], limits: Limits
) -> dict[str, float]:
    """One step away from a variant, to others in proportion to their target."""
    raise NotImplementedError


def back(now: Mapping[str, float], variant: str, target: Mapping[str, float], limits: Limits) -> dict[str, float]:
    """One step of a variant back to its target."""
    raise NotImplementedError
