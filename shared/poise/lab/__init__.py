"""The lab: a mesh of its own in which a part is made to do worse, with the loop on and off."""

from poise.lab.arm import Arm, Request, run_arm
from poise.lab.ground import Ground
from poise.lab.questions import asked
from poise.lab.report import ArmReport, Report, report_of
from poise.lab.scenario import Scenario, load, names

__all__ = [
    "Arm",
    "ArmReport",
    "Ground",
    "Report",
    "Request",
    "Scenario",
    "asked",
    "load",
    "names",
    "report_of",
    "run_arm",
]
