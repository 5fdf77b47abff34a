"""The drill: stop one part after another of a running mesh, and record the answers that callers get."""

from poise_labs.drill.environment import DrillEnvironment
from poise_labs.drill.runner import DrillOutcome, run_drill
from poise_labs.drill.scenarios import SCENARIOS, DrillScenario

__all__ = ["SCENARIOS", "DrillEnvironment", "DrillOutcome", "DrillScenario", "run_drill"]
