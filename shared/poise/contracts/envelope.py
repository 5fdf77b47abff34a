"""The envelope: what a message's headers say, read and written in one place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from poise.contracts.fault import FieldError
from poise.contracts.integers import MAX_DIGITS, read_integer
from poise.contracts.trace_context import valid_trace_headers

RawHeaders = Iterable[tuple[str, bytes | None]]
"""Names and values as Kafka has them: a value may be null, and names may repeat."""

CORRELATION_ID: Final = "correlation_id"
KIND: Final = "poise-kind"
CONTENT_TYPE: Final = "content-type"
DEADLINE: Final = "poise-deadline"
RUN: Final = "poise-run"
STEP: Final = "poise-step"
REPLY_TO: Final = "reply_to"
REPLY_PARTITION: Final = "poise-reply-partition"
MIN_EPOCH: Final = "poise-min-epoch"
STREAM_TO: Final = "poise-stream-to"
STREAM: Final = "poise-stream"
SEQ: Final = "poise-seq"

_HEADER_BY_FIELD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "correlation_id": CORRELATION_ID,
        "reply_to": REPLY_TO,
        "content_type": CONTENT_TYPE,
        "reply_partition": REPLY_PARTITION,
        "deadline": DEADLINE,
        "attempt": "poise-attempt",
        "run": RUN,
        "step": STEP,
        "tenant": "poise-tenant",
        "region": "poise-region",
        "kind": KIND,
        "min_epoch": MIN_EPOCH,
        "origin": "poise-origin",
        "redrives": "poise-redrives",
        "doc_version": "poise-doc-version",
        "stream_to": STREAM_TO,
        "stream": STREAM,
        "seq": SEQ,
    }
)
_INTEGER_FIELDS: Final = frozenset({"reply_partition", "deadline", "attempt", "redrives", "doc_version", "seq"})
_BYTES_FIELDS: Final = frozenset({"correlation_id", "stream_to"})
MAX_HEADER_BYTES: Final = 8_192
"""Bytes of any other header of Poise's: it is copied into replies and calls, which have to fit their topics."""
MAX_STREAM_TO_BYTES: Final = MAX_HEADER_BYTES + 300
"""Bytes of `poise-stream-to`: a correlation id, behind a topic and a partition."""
_MAX_BYTES: Final = {STREAM_TO: MAX_STREAM_TO_BYTES}
_FIELD_BY_HEADER: Final = {name: key for key, name in _HEADER_BY_FIELD.items()}
_IN_ORDER: Final = tuple(_HEADER_BY_FIELD.items())


class EnvelopeError(ValueError):
    """A header cannot be read; `error` names it and says why."""

    def __init__(self, header: str, detail: str) -> None:
        super().__init__(f"header {header}: {detail}")
        self.error = FieldError(field=header, detail=detail)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of a message; an absent one is None."""

    correlation_id: bytes | None = None
    """What the caller recognises the reply by: any bytes, echoed as they are."""
    reply_to: str | None = None
    content_type: str | None = None
    reply_partition: int | None = None
    deadline: int | None = None
    """Unix milliseconds after which nobody wants the answer."""
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
    """Where the words of the answer go as they come: `topic/partition/correlation id`, or without the id, which is then
    the message's own."""
    stream: str | None = None
    """On an event: the attempt that it belongs to. On a reply: the one whose words count."""
    seq: int | None = None
    """On an event: its number, from 0. On a reply: that of the last event."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """`traceparent`, `tracestate`, `baggage` (W3C)."""

    @classmethod
    def read(cls, headers: RawHeaders) -> Self:
        """Read headers; those that are not Poise's are passed over.

        Of a repeated one the last counts, a null one counts as absent, and trace headers that are not well formed are
        dropped.

        Raises:
            EnvelopeError: A header of Poise's is not UTF-8, is too long, or is not the number it should be.
        """
        last = dict(headers)
        values = {
            key: _decode_value(name, raw)
            for name, raw in last.items()
            if raw is not None and (key := _FIELD_BY_HEADER.get(name)) is not None
        }
        return cls(**values, trace=valid_trace_headers(last))  # type: ignore[arg-type]  # each value has its field's type

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers as Kafka wants them, absent ones left out.

        Raises:
            EnvelopeError: A text has no UTF-8 form.
        """
        written = [
            (name, _encode_value(name, value)) for key, name in _IN_ORDER if (value := getattr(self, key)) is not None
        ]
        written.extend((name, value.encode()) for name, value in self.trace.items())
        return written

    def with_changes(self, **changes: object) -> Self:
        """A copy with some headers changed; None removes one."""
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by the dataclass itself


def _decode_value(name: str, raw: bytes) -> str | bytes | int:
    if len(raw) > (longest := _MAX_BYTES.get(name, MAX_HEADER_BYTES)):
        raise EnvelopeError(name, f"must be at most {longest} bytes long, not {len(raw)}")
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
        raise EnvelopeError(name, "has no UTF-8 form: it holds half of a surrogate pair") from error
