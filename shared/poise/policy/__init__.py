"""The policy over variants: which there are, how they are weighted, and how one is drawn."""

from poise.policy.draw import Choice, Weighted, draw, uniform
from poise.resilience.breaker import Breaker, BreakerLimits

__all__ = ["Breaker", "BreakerLimits", "Choice", "Weighted", "draw", "uniform"]
