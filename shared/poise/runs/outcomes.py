"""Faults that a workflow saw, as the history keeps them: they come back as what they were."""

import json
from typing import Final

from pydantic import ValidationError

from poise.contracts.fault import Fault
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    InvalidMessageError,
    PoiseError,
    TerminalError,
    UnavailableError,
    WithdrawnError,
)

_BACK: Final[dict[str, type[TerminalError]]] = {
    kind.__name__: kind
    for kind in (TerminalError, InvalidMessageError, DeadlineExceededError, WithdrawnError, UnavailableError)
}


def encode_fault(error: PoiseError) -> bytes:
    """A fault, with the class that it was raised as."""
    return json.dumps([type(error).__name__, str(error)]).encode() + b"\n" + error.fault().encode()


def decode_fault(body: bytes) -> TerminalError:
    """What is raised again; an error of a class that is not Poise's comes back as the fault that it said.

    Raises:
        ValueError: It is no fault.
    """
    head, _, rest = body.partition(b"\n")
    name, message = json.loads(head)
    try:
        fault = Fault.parse(rest)
    except ValidationError as error:
        raise ValueError(str(error)) from error
    kind = _BACK.get(name)
    if kind is None:
        return FaultError(fault)
    return InvalidMessageError(message, fault.errors) if kind is InvalidMessageError else kind(message)
