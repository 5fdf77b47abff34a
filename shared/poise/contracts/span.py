"""Span: a finished operation of a run. `poise.spans` retains it for a day, and `poise trace` shows it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from poise.contracts.bounds import INT64, Finite, Quantity, UnixSeconds
from poise.contracts.message import Message

Role = Literal["internal", "server", "client", "producer", "consumer"]

AttributeValue = bool | Annotated[int, Field(ge=-INT64, le=INT64)] | Finite | str


class SpanRecord(Message):
    """A finished span; the record's key is the run. Times are by the clock of the span's host."""

    kind: ClassVar[str] = "span/1"

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None = None
    """The enclosing span, or the span that sent the message; absent for a root span."""
    name: str
    role: Role = "internal"
    """OpenTelemetry's span kind."""
    service: str
    """`poise-<tier>`."""
    instance: str
    host: str = ""
    start: UnixSeconds
    """Unix seconds."""
    ms: Quantity
    """Duration in milliseconds."""
    status: Literal["ok", "error"] = "ok"
    error: str | None = None
    """The error, if the status is `error`."""
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    """Attributes by OpenTelemetry's names. Lists are joined with commas, and long texts truncated."""
