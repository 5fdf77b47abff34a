"""The envelope: the headers of a message, decoded and encoded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from poise.contracts.fault import FieldError
from poise.contracts.headers import (
    ATTEMPT,
    CONTENT_TYPE,
    CORRELATION_ID,
    DEADLINE,
    DOC_VERSION,
    KIND,
    MIN_EPOCH,
    ORIGIN,
    REDRIVES,
    REGION,
    REPLY_PARTITION,
    REPLY_TO,
    RUN,
    SEQ,
    STEP,
    STREAM,
    STREAM_TO,
    TENANT,
)
from poise.contracts.integers import MAX_DIGITS, read_integer
from poise.contracts.trace_context import valid_trace_headers

RawHeaders = Iterable[tuple[str, bytes | None]]
"""Names and values as in Kafka: a value may be null, and names may repeat."""


_HEADER_BY_FIELD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "correlation_id": CORRELATION_ID,
        "reply_to": REPLY_TO,
        "content_type": CONTENT_TYPE,
        "reply_partition": REPLY_PARTITION,
        "deadline": DEADLINE,
        "attempt": ATTEMPT,
        "run": RUN,
        "step": STEP,
        "tenant": TENANT,
        "region": REGION,
        "kind": KIND,
        "min_epoch": MIN_EPOCH,
        "origin": ORIGIN,
        "redrives": REDRIVES,
        "doc_version": DOC_VERSION,
        "stream_to": STREAM_TO,
        "stream": STREAM,
        "seq": SEQ,
    }
)
_INTEGER_FIELDS: Final = frozenset({"reply_partition", "deadline", "attempt", "redrives", "doc_version", "seq"})
_BYTES_FIELDS: Final = frozenset({"correlation_id", "stream_to"})
MAX_HEADER_BYTES: Final = 8_192
"""Bytes of any other header of Poise: headers are copied into replies and calls, which must fit their topics."""
MAX_STREAM_TO_BYTES: Final = MAX_HEADER_BYTES + 300
"""Bytes of `poise-stream-to`: a topic, a partition and a correlation id."""
_MAX_BYTES: Final = {STREAM_TO: MAX_STREAM_TO_BYTES}
_FIELD_BY_HEADER: Final = {name: key for key, name in _HEADER_BY_FIELD.items()}
_IN_ORDER: Final = tuple(_HEADER_BY_FIELD.items())


class EnvelopeError(ValueError):
    """A header cannot be decoded or encoded; `error` has its name and the reason."""

    def __init__(self, header: str, detail: str) -> None:
        super().__init__(f"header {header}: {detail}")
        self.error = FieldError(field=header, detail=detail)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of a message; an absent one is None."""

    correlation_id: bytes | None = None
    """Identifies the reply to its caller: any bytes, returned unchanged."""
    reply_to: str | None = None
    content_type: str | None = None
    reply_partition: int | None = None
    deadline: int | None = None
    """Unix milliseconds after which the answer is of no use."""
    attempt: int | None = None
    run: str | None = None
    step: str | None = None
    tenant: str | None = None
    region: str | None = None
    kind: str | None = None
    min_epoch: str | None = None
    origin: str | None = None
    """`topic/partition/offset` of the first copy."""
    redrives: int | None = None
    doc_version: int | None = None
    """On `poise.passages`: the document's offset in `poise.documents`."""
    stream_to: bytes | None = None
    """Where to stream the answer to: `topic/partition/correlation id`. Without the id, it is the message's own."""
    stream: str | None = None
    """On an event: the attempt that it belongs to. On a reply: the attempt whose text is valid."""
    seq: int | None = None
    """On an event: its number, from 0. On a reply: the number of the last event."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """`traceparent`, `tracestate`, `baggage` (W3C)."""

    @classmethod
    def read(cls, headers: RawHeaders) -> Self:
        """Decode headers; unknown ones are skipped.

        The last of repeated headers counts, a null header counts as absent, and malformed trace headers are dropped.

        Raises:
            EnvelopeError: A header of Poise is not UTF-8, is too long, or is not a number although it must be.
        """
        by_name = dict(headers)
        values = {
            key: _decode_value(name, raw)
            for name, raw in by_name.items()
            if raw is not None and (key := _FIELD_BY_HEADER.get(name)) is not None
        }
        return cls(**values, trace=valid_trace_headers(by_name))  # type: ignore[arg-type]  # typed per field

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers in Kafka's form, without absent ones.

        Raises:
            EnvelopeError: A text cannot be encoded as UTF-8.
        """
        written = [
            (name, _encode_value(name, value)) for key, name in _IN_ORDER if (value := getattr(self, key)) is not None
        ]
        written.extend((name, value.encode()) for name, value in self.trace.items())
        return written

    def with_changes(self, **changes: object) -> Self:
        """Return a copy with some headers changed; None removes a header."""
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by the dataclass itself


def _decode_value(name: str, raw: bytes) -> str | bytes | int:
    if len(raw) > (limit := _MAX_BYTES.get(name, MAX_HEADER_BYTES)):
        raise EnvelopeError(name, f"must be at most {limit} bytes long, not {len(raw)}")
    key = _FIELD_BY_HEADER[name]
    if key in _BYTES_FIELDS:
        return raw
    if key not in _INTEGER_FIELDS:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise EnvelopeError(name, "is not UTF-8") from error
    number = read_integer(raw)
    if number is None:
        shown = raw[:40].decode(errors="replace")
        raise EnvelopeError(name, f"must be a whole number of at most {MAX_DIGITS} digits, not {shown!r}")
    return number


def _encode_value(name: str, value: str | bytes | int) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return str(value).encode()
    except UnicodeEncodeError as error:
        raise EnvelopeError(name, "cannot be encoded as UTF-8: it contains an unpaired surrogate") from error
