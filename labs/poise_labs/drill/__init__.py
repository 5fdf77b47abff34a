"""The drill: break one part after another of a mesh that is at work, and see what its readers get."""

from poise_labs.drill.environment import DrillEnvironment
from poise_labs.drill.runner import DrillOutcome, run_drill
from poise_labs.drill.scenarios import SCENARIOS, DrillScenario

__all__ = ["SCENARIOS", "DrillEnvironment", "DrillOutcome", "DrillScenario", "run_drill"]
