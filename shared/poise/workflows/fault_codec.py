"""Faults that a workflow saw, as the history keeps them: they come back as what they were."""

import json
from typing import Final

from pydantic import ValidationError

from poise.contracts.fault import Fault
from poise.errors import (
    DeadlineExceededError,
    EncodingError,
    FaultError,
    InvalidMessageError,
    NotTakenError,
    PoiseError,
    RunCancelledError,
    TerminalError,
    UnavailableError,
)

_ERRORS_BY_NAME: Final[dict[str, type[PoiseError]]] = {
    kind.__name__: kind
    for kind in (TerminalError, DeadlineExceededError, NotTakenError, RunCancelledError, UnavailableError)
}

_ERRORS_WITH_FIELDS: Final[dict[str, type[InvalidMessageError | EncodingError]]] = {
    kind.__name__: kind for kind in (InvalidMessageError, EncodingError)
}


def encode_fault(error: PoiseError) -> bytes:
    """A fault, with the class that it was raised as."""
    return json.dumps([type(error).__name__, str(error)]).encode() + b"\n" + error.fault().encode()


def decode_fault(body: bytes) -> PoiseError:
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
    if (named := _ERRORS_WITH_FIELDS.get(name)) is not None:
        return named(message, fault.errors)
    kind = _ERRORS_BY_NAME.get(name)
    return FaultError(fault) if kind is None else kind(message)
