"""Encoding: a message as the bytes that are sent, or the name of the field that has no form in JSON.

Encoding is part of the work: a tier encodes its reply before it settles anything, a caller its request before it waits
for anybody. So what cannot be written is told once, at once, and the work is not done again for it.
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
"""Levels that are looked into for the field that is to blame."""
MAX_ERROR_CHARS: Final = 200
"""Characters of what the encoder said that are passed on."""


@dataclass(frozen=True, slots=True)
class EncodedMessage:
    """A message and its bytes, which are made once."""

    message: Message
    body: bytes

    @classmethod
    def of(cls, message: Message) -> Self:
        """Encode a message.

        Raises:
            EncodingError: A field of it has no form in JSON.
        """
        return cls(message, encode(message))

    @property
    def kind(self) -> str:
        """The kind of the message."""
        return self.message.kind


def encode(message: Message) -> bytes:
    """The body of a message.

    Raises:
        EncodingError: A field of it has no form in JSON; the error names it.
    """
    try:
        body = message.encode()
        # Pydantic writes what is no finite number as null, which whoever reads a number refuses.
        field = (
            _non_finite_path(message.model_dump(), "", MAX_DEPTH) if b"null" in body and _writes_null(message) else None
        )
    except Exception as error:  # serializers of a message of somebody's own may raise anything
        raise _encoding_error(message.kind, message, error) from error
    if field is not None:
        raise EncodingError.of(message.kind, field, "is no finite number")
    return body


def encode_value(what: str, value: object, adapter: TypeAdapter[Any]) -> bytes:
    """Something that is no message, as JSON.

    Args:
        what: What it is, for the error.
        value: What is to be written.
        adapter: Of its type.

    Raises:
        EncodingError: A part of it has no form in JSON; the error names it.
    """
    try:
        return adapter.dump_json(value)
    except Exception as error:
        raise _encoding_error(what, value, error) from error


def encode_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The headers of a message.

    Raises:
        EncodingError: One of them has no form in UTF-8; the error names it.
    """
    try:
        return envelope.headers()
    except EnvelopeError as error:
        raise EncodingError.of(envelope.kind or "message", error.error.field, error.error.detail) from error


# -- which field it is -------------------------------------------------------------------------------------------------


def _encoding_error(what: str, value: object, error: Exception) -> EncodingError:
    said = " ".join(str(error).split())[:MAX_ERROR_CHARS]
    return EncodingError.of(what, _failing_path(value, MAX_DEPTH) or "body", said or type(error).__name__)


def _failing_path(value: object, depth: int) -> str:
    """The dotted path to the innermost part that cannot be encoded; empty where it is the value itself."""
    found = _failing_part(value) if depth else None
    if found is None:
        return ""
    name, part = found
    inner = _failing_path(part, depth - 1)
    return f"{name}.{inner}" if inner else name


def _failing_part(value: object) -> tuple[str, object] | None:
    """The first part of a value that cannot be encoded, by its name; None where that is none of them alone."""
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
    except Exception:  # noqa: BLE001 - that is the question
        return True
    return False


def _writes_null(message: Message) -> bool:
    return message.model_config.get("ser_json_inf_nan") == "null"


def _non_finite_path(value: object, path: str, depth: int) -> str | None:
    """The dotted path to a float that is infinite or none; None where there is no such float."""
    if isinstance(value, float) and not math.isfinite(value):
        return path
    for name, part in _items(value) if depth else ():
        if (found := _non_finite_path(part, f"{path}.{name}" if path else name, depth - 1)) is not None:
            return found
    return None


def _items(value: object) -> Iterator[tuple[str, object]]:
    """What a value of JSON's own kinds is made of, by name."""
    if isinstance(value, Mapping):
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value))
