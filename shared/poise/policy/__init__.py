"""The policy over variants: which there are, how they are weighted, and how one is drawn."""

from poise.policy.draw import Choice, Weighted, chance, draw
from poise.resilience.breaker import Breaker, BreakerLimits

__all__ = ["Breaker", "BreakerLimits", "Choice", "Weighted", "chance", "draw"]
