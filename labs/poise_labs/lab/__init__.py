"""The lab: a mesh of its own in which a part is made to do worse, with the loop on and off."""

from poise_labs.lab.environment import Ground
from poise_labs.lab.experiment import Arm, LabRequest, run_arm
from poise_labs.lab.questions import asked
from poise_labs.lab.report import ArmReport, Report, report_of
from poise_labs.lab.scenario import Scenario, load, names

__all__ = [
    "Arm",
    "ArmReport",
    "Ground",
    "LabRequest",
    "Report",
    "Scenario",
    "asked",
    "load",
    "names",
    "report_of",
    "run_arm",
]
