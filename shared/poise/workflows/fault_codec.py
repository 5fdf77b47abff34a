"""Fault codec: writes the faults that a workflow saw to the journal, and restores them with their class."""

import json
from typing import Final

from pydantic import ValidationError

from poise.contracts.fault import Fault
from poise.errors import (
    DeadlineExceededError,
    EncodingError,
    FaultError,
    InvalidMessageError,
    NotAcknowledgedError,
    PoiseError,
    RunCancelledError,
    TerminalError,
    UnavailableError,
)

_ERRORS_BY_NAME: Final[dict[str, type[PoiseError]]] = {
    kind.__name__: kind for kind in (TerminalError, DeadlineExceededError, RunCancelledError, UnavailableError)
} | {"NotTakenError": NotAcknowledgedError}

_STORED_NAMES: Final = {NotAcknowledgedError: "NotTakenError"}
"""Names in the journal that differ from the class's: journals of earlier versions have them too."""

_ERRORS_WITH_FIELDS: Final[dict[str, type[InvalidMessageError | EncodingError]]] = {
    kind.__name__: kind for kind in (InvalidMessageError, EncodingError)
}


def encode_fault(error: PoiseError) -> bytes:
    """Encode an error as its class, its message and its fault."""
    return (
        json.dumps([_STORED_NAMES.get(type(error), type(error).__name__), str(error)]).encode()
        + b"\n"
        + error.fault().encode()
    )


def decode_fault(body: bytes) -> PoiseError:
    """Decode an error; one of a class outside Poise comes back as a `FaultError` with its fault.

    Raises:
        ValueError: The bytes are not an encoded fault.
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
