"""The drill: break one part after another of a mesh that is at work, and see what its readers get."""

from poise_labs.drill.environment import Ground
from poise_labs.drill.runner import DrillOutcome, practise
from poise_labs.drill.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "DrillOutcome", "Ground", "Scenario", "practise"]
