"""Runs: workflows as plain async code, whose finished steps are found again when a run is begun again."""

from poise.runs.notes import Notes
from poise.runs.run import Door, Run
from poise.runs.start_time import start_time
from poise.runs.workflow import Workflow, workflow

__all__ = ["Door", "Notes", "Run", "Workflow", "start_time", "workflow"]
