"""Poise: an async, message-driven mesh for AI applications that checks and measures its answers."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poise.client import Poise
    from poise.errors import FaultError, PoiseError, RetryableError, TerminalError
    from poise.runs import Run, workflow

__all__ = ["FaultError", "Poise", "PoiseError", "RetryableError", "Run", "TerminalError", "workflow"]

_ELSEWHERE = {"Poise": "poise.client", "Run": "poise.runs", "workflow": "poise.runs"}
"""Where the names are that are not errors."""


def __getattr__(name: str) -> object:
    """Load a name when it is first used: `import poise` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "poise.errors")), name)
