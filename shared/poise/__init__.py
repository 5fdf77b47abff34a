"""Poise: an async, message-driven mesh for AI applications that checks and measures its answers.

The names of this module are the public API. Each is imported when it is first used, so that `import poise` costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from poise.client import Poise
    from poise.errors import (
        CallError,
        DeadlineExceededError,
        EncodingError,
        FaultError,
        HandlerError,
        InvalidMessageError,
        NonDeterminismError,
        NotAcknowledgedError,
        PoiseError,
        RateLimitedError,
        RetryableError,
        RunCancelledError,
        SetupError,
        TerminalError,
        TransportError,
        UnavailableError,
    )
    from poise.kafka.handling_slots import parked
    from poise.worker.context import Context
    from poise.worker.executors import in_processes
    from poise.worker.process import run
    from poise.worker.tier import Tier
    from poise.worker.tier_loader import serve
    from poise.workflows.run import Run
    from poise.workflows.workflow import workflow

__all__ = [
    "CallError",
    "Context",
    "DeadlineExceededError",
    "EncodingError",
    "FaultError",
    "HandlerError",
    "InvalidMessageError",
    "NonDeterminismError",
    "NotAcknowledgedError",
    "Poise",
    "PoiseError",
    "RateLimitedError",
    "RetryableError",
    "Run",
    "RunCancelledError",
    "SetupError",
    "TerminalError",
    "Tier",
    "TransportError",
    "UnavailableError",
    "in_processes",
    "parked",
    "run",
    "serve",
    "workflow",
]

_MODULES: Final = {
    "Context": "poise.worker.context",
    "Poise": "poise.client",
    "Run": "poise.workflows.run",
    "Tier": "poise.worker.tier",
    "in_processes": "poise.worker.executors",
    "parked": "poise.kafka.handling_slots",
    "run": "poise.worker.process",
    "serve": "poise.worker.tier_loader",
    "workflow": "poise.workflows.workflow",
}
"""Where the names are that are not errors."""


def __getattr__(name: str) -> object:
    """Load a name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "poise.errors")), name)
