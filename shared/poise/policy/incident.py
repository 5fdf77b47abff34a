"""Trouble: a variant that was found to be worse, and how far what is done about it has come."""

from dataclasses import dataclass

from poise.contracts.policy import Finding


@dataclass(slots=True)
class Incident:
    """A variant that was found to be worse, until it has recovered."""

    finding: Finding
    due: int
    """How many answers must have been counted before its next step."""
    told: bool = False
    """It was said once that there is nowhere to go, or where one would."""
    offered: bool = False
    """It was said once that one would go back."""
    returning: bool = False
    """It has recovered, and is on its way back."""
