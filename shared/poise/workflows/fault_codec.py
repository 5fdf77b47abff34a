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

_ERRORS: Final[dict[str, type[PoiseError]]] = {
    "TerminalError": TerminalError,
    "DeadlineExceededError": DeadlineExceededError,
    "NotTakenError": NotAcknowledgedError,
    "RunCancelledError": RunCancelledError,
    "UnavailableError": UnavailableError,
}
"""By the name in the journal, which is that of the class when the first journals were written."""
_NAMES: Final = {error_type: name for name, error_type in _ERRORS.items()}

_ERRORS_WITH_FIELDS: Final[dict[str, type[InvalidMessageError | EncodingError]]] = {
    error_type.__name__: error_type for error_type in (InvalidMessageError, EncodingError)
}


def encode_fault(error: PoiseError) -> bytes:
    """Encode an error as the name of its class, its message and its fault."""
    name = _NAMES.get(type(error), type(error).__name__)
    return json.dumps([name, str(error)]).encode() + b"\n" + error.fault().encode()


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
    if (with_fields := _ERRORS_WITH_FIELDS.get(name)) is not None:
        return with_fields(message, fault.errors)
    error_type = _ERRORS.get(name)
    return FaultError(fault) if error_type is None else error_type(message)
