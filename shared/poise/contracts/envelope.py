"""The envelope: what a message's headers say, read and written in one place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from poise.contracts.fault import FieldError

RawHeaders = Iterable[tuple[str, bytes]]

KIND: Final = "poise-kind"
CONTENT_TYPE: Final = "content-type"
DEADLINE: Final = "poise-deadline"
REPLY_PARTITION: Final = "poise-reply-partition"
STREAM_TO: Final = "poise-stream-to"
STREAM: Final = "poise-stream"
SEQ: Final = "poise-seq"

_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "correlation_id": "correlation_id",
        "reply_to": "reply_to",
        "content_type": CONTENT_TYPE,
        "reply_partition": REPLY_PARTITION,
        "deadline": DEADLINE,
        "attempt": "poise-attempt",
        "run": "poise-run",
        "step": "poise-step",
        "tenant": "poise-tenant",
        "region": "poise-region",
        "kind": KIND,
        "min_epoch": "poise-min-epoch",
        "origin": "poise-origin",
        "redrives": "poise-redrives",
        "doc_version": "poise-doc-version",
        "stream_to": STREAM_TO,
        "stream": STREAM,
        "seq": SEQ,
    }
)
_NUMBERS: Final = frozenset({"reply_partition", "deadline", "attempt", "redrives", "doc_version", "seq"})
_LONGEST_NUMBER: Final = 18
"""Digits: fits 64 bits."""
LONGEST_TEXT: Final = 8_192
"""Bytes of any other header of Poise's: it is copied into replies and calls, which have to fit their topics."""
_TRACE: Final = frozenset({"traceparent", "tracestate", "baggage"})
_FIELDS: Final = {name: key for key, name in _NAMES.items()}
_IN_ORDER: Final = tuple(_NAMES.items())


class EnvelopeError(ValueError):
    """A header cannot be read; `error` names it and says why."""

    def __init__(self, header: str, detail: str) -> None:
        super().__init__(f"header {header}: {detail}")
        self.error = FieldError(field=header, detail=detail)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of a message. On the wire all are strings; an absent one is None."""

    correlation_id: str | None = None
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
    stream_to: str | None = None
    """Where the words of the answer go as they come: `topic/partition/correlation id`."""
    stream: str | None = None
    """On an event: the attempt that it belongs to. On a reply: the one whose words count."""
    seq: int | None = None
    """On an event: its number, from 0. On a reply: that of the last event."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """`traceparent`, `tracestate`, `baggage` (W3C)."""

    @classmethod
    def read(cls, headers: RawHeaders) -> Self:
        """Read headers; those that are not Poise's are passed over, of a repeated one the last counts.

        Raises:
            EnvelopeError: A header of Poise's is not UTF-8, is too long, or is not the number it should be.
        """
        values: dict[str, str | int] = {}
        trace: dict[str, str] = {}
        for name, raw in headers:
            key = _FIELDS.get(name)
            if key is None and name not in _TRACE:
                continue
            if len(raw) > LONGEST_TEXT:
                raise EnvelopeError(name, f"must be at most {LONGEST_TEXT} bytes long, not {len(raw)}")
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise EnvelopeError(name, "is not UTF-8") from error
            if key is None:
                trace[name] = text
            elif key in _NUMBERS:
                values[key] = _number(name, text)
            else:
                values[key] = text
        return cls(**values, trace=trace)  # type: ignore[arg-type]  # each value has its field's type by _NUMBERS

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers as Kafka wants them, absent ones left out."""
        written = [(name, str(value).encode()) for key, name in _IN_ORDER if (value := getattr(self, key)) is not None]
        written.extend((name, value.encode()) for name, value in self.trace.items())
        return written

    def but(self, **changes: object) -> Self:
        """A copy with some headers changed; None removes one."""
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by the dataclass itself


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise EnvelopeError(name, f"must be a whole number of at most {_LONGEST_NUMBER} digits, not {text[:40]!r}")
    return int(text)
