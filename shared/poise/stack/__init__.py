"""The stack that Poise brings along: Kafka, Valkey, a model and the workers, as child processes on loopback."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poise.stack.events import Event, Tell
    from poise.stack.kafka import Kafka, Node
    from poise.stack.model import ModelServer
    from poise.stack.options import Existing, Ports, StackOptions, parse_workers
    from poise.stack.stack import Stack
    from poise.stack.state import PartState, StackState, running
    from poise.stack.valkey import Valkey

_HOMES = {
    "events": ("Event", "Tell"),
    "kafka": ("Kafka", "Node"),
    "model": ("ModelServer",),
    "options": ("Existing", "Ports", "StackOptions", "parse_workers"),
    "stack": ("Stack",),
    "state": ("PartState", "StackState", "running"),
    "valkey": ("Valkey",),
}

__all__ = [
    "Event",
    "Existing",
    "Kafka",
    "ModelServer",
    "Node",
    "PartState",
    "Ports",
    "Stack",
    "StackOptions",
    "StackState",
    "Tell",
    "Valkey",
    "parse_workers",
    "running",
]


def __getattr__(name: str) -> object:
    """Load a name when it is first used: whoever asks where a stack runs need not load what would start one."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"poise.stack.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
