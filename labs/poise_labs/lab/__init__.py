"""The lab: an experiment on a temporary mesh in which a variant is degraded, with the loop on and off."""

from poise_labs.lab.environment import LabEnvironment
from poise_labs.lab.experiment import ExperimentArm, LabRequest, run_arm
from poise_labs.lab.questions import sample_questions
from poise_labs.lab.report import ArmReport, ScenarioReport, report_of
from poise_labs.lab.scenario import Scenario, load_scenario, scenario_names

__all__ = [
    "ArmReport",
    "ExperimentArm",
    "LabEnvironment",
    "LabRequest",
    "Scenario",
    "ScenarioReport",
    "load_scenario",
    "report_of",
    "run_arm",
    "sample_questions",
    "scenario_names",
]
