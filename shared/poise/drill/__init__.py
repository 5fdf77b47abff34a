"""The drill: break one part after another of a mesh that is at work, and see what its readers get."""

from poise.drill.ground import Ground
from poise.drill.practice import Outcome, practise
from poise.drill.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Ground", "Outcome", "Scenario", "practise"]
