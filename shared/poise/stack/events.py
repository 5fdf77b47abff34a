"""Events that the stack reports while it starts, runs and stops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One event."""

    part: str
    """The part's name: `kafka`, `inference-1`, …"""
    state: Literal["note", "ready", "failed"]
    text: str = ""
    """One line for a person; with `failed`, what to do or where to look."""
    seconds: float | None = None
    """With `ready`: how long it took."""


EventListener = Callable[[StackEvent], None]
"""Receives each event as it happens; must not block."""


def ignore_event(_event: StackEvent) -> None:
    """Ignore the event."""
