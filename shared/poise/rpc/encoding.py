"""Encoding of messages as JSON; an error names the field that JSON cannot represent.

Encoding is part of handling: a tier encodes its reply before it stores it, and a caller encodes its request before it
waits. So an encoding error is reported once, immediately, and the work is not repeated.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json

from poise.contracts.envelope import Envelope, EnvelopeError
from poise.contracts.message import Message
from poise.errors import EncodingError

JSON: Final = "application/json"
"""The content type of every body."""
MAX_DEPTH: Final = 20
"""Levels to search for the field that cannot be encoded."""
MAX_ERROR_CHARS: Final = 200
"""Characters of the encoder's message that the error contains."""


@dataclass(frozen=True, slots=True)
class EncodedMessage:
    """A message and its encoded body."""

    message: Message
    body: bytes

    @classmethod
    def of(cls, message: Message) -> Self:
        """Encode a message.

        Raises:
            EncodingError: JSON cannot represent one of its fields.
        """
        return cls(message, encode(message))

    @property
    def kind(self) -> str:
        """The kind of the message."""
        return self.message.kind


def encode(message: Message) -> bytes:
    """Return the body of a message.

    Raises:
        EncodingError: JSON cannot represent one of its fields; the error names it.
    """
    try:
        body = message.encode()
        # Pydantic writes NaN and infinity as null, which a reader of a number refuses.
        field = (
            _non_finite_path(message.model_dump(), "", MAX_DEPTH) if b"null" in body and _writes_null(message) else None
        )
    except Exception as error:  # the serializers of a custom message may raise any exception
        raise _encoding_error(message.kind, message, error) from error
    if field is not None:
        raise EncodingError.of(message.kind, field, "is not a finite number")
    return body


def encode_value(what: str, value: object, adapter: TypeAdapter[Any]) -> bytes:
    """Return a value that is not a message as JSON.

    Args:
        what: The name of the value, for the error.
        value: The value.
        adapter: The adapter of its type.

    Raises:
        EncodingError: JSON cannot represent a part of it; the error names it.
    """
    try:
        return adapter.dump_json(value)
    except Exception as error:
        raise _encoding_error(what, value, error) from error


def encode_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Return the headers of a message.

    Raises:
        EncodingError: UTF-8 cannot represent one of them; the error names it.
    """
    try:
        return envelope.headers()
    except EnvelopeError as error:
        raise EncodingError.of(envelope.kind or "message", error.error.field, error.error.detail) from error


# -- the failing field ------------------------------------------------------------------------------------------------


def _encoding_error(what: str, value: object, error: Exception) -> EncodingError:
    message = " ".join(str(error).split())[:MAX_ERROR_CHARS]
    return EncodingError.of(what, _failing_path(value, MAX_DEPTH) or "body", message or type(error).__name__)


def _failing_path(value: object, depth: int) -> str:
    """Return the dotted path to the innermost part that cannot be encoded; empty if it is the value itself."""
    failing = _failing_part(value) if depth else None
    if failing is None:
        return ""
    name, part = failing
    inner = _failing_path(part, depth - 1)
    return f"{name}.{inner}" if inner else name


def _failing_part(value: object) -> tuple[str, object] | None:
    """Return the name and value of the first part that cannot be encoded; None if each part alone can be."""
    if isinstance(value, BaseModel):
        kind = type(value)
        if kind.__pydantic_decorators__.model_serializers:
            return None
        for name in (*kind.model_fields, *kind.model_computed_fields):
            if _fails(partial(value.model_dump_json, include={name})):
                return name, value.__dict__.get(name)
        return None
    for name, part in _items(value):
        if _fails(partial(to_json, part)):
            return name, part
    return None


def _fails(encode_part: Callable[[], object]) -> bool:
    try:
        encode_part()
    except Exception:  # noqa: BLE001 - any exception is the answer
        return True
    return False


def _writes_null(message: Message) -> bool:
    return message.model_config.get("ser_json_inf_nan") == "null"


def _non_finite_path(value: object, path: str, depth: int) -> str | None:
    """Return the dotted path to a float that is infinite or NaN; None if there is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return path
    for name, part in _items(value) if depth else ():
        if (inner := _non_finite_path(part, f"{path}.{name}" if path else name, depth - 1)) is not None:
            return inner
    return None


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object or array, by name or index."""
    if isinstance(value, Mapping):
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value))
