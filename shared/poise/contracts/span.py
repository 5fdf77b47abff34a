"""Span: one finished piece of work of a run, as `poise.spans` keeps it for a day and `poise trace` shows it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from poise.contracts.bounds import INT64, Finite, Quantity, UnixSeconds
from poise.contracts.message import Message

Role = Literal["internal", "server", "client", "producer", "consumer"]

Attribute = bool | Annotated[int, Field(ge=-INT64, le=INT64)] | Finite | str


class SpanRecord(Message):
    """A finished span; the record's key is its run. Times are by the clock of its own host."""

    kind: ClassVar[str] = "span/1"

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None = None
    """The span it is part of, or the message that it answers to was sent from; absent at the root."""
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
    """Milliseconds it took."""
    status: Literal["ok", "error"] = "ok"
    error: str | None = None
    """What went wrong, when something did."""
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    """By OpenTelemetry's names, lists joined with commas, long texts cut."""
