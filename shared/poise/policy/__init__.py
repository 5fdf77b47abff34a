"""The policy over variants: which there are, how they are weighted, and how one is drawn."""

from poise.policy.breaker import Breaker, BreakerLimits
from poise.policy.draw import Choice, Weighted, chance, draw

__all__ = ["Breaker", "BreakerLimits", "Choice", "Weighted", "chance", "draw"]
