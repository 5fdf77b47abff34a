"""Dead letters as JSON, for the command line and HTTP."""

import base64
from typing import Self

from pydantic import BaseModel, ConfigDict

from poise.contracts.headers import DEAD_TRACEBACK, DEAD_WORKER
from poise.dead_letters.model import DeadLetter, DeadLetterState


class DeadLetterSummary(BaseModel):
    """A dead letter in a list."""

    model_config = ConfigDict(frozen=True)

    id: str
    """`tier/partition/offset`."""
    at: float
    """When the message was dead-lettered, Unix seconds."""
    topic: str
    """The topic of the failed message."""
    error: str
    """The error's type."""
    message: str
    state: DeadLetterState
    redrives: int
    """How often the message was redriven before."""
    redriven: str | None = None
    """The position of the resent message, `topic/partition/offset`."""

    @classmethod
    def of(cls, entry: DeadLetter) -> Self:
        """Return the summary of a dead letter."""
        return cls(**_summary(entry))


class DeadLetterHeader(BaseModel):
    """One header; its value as text, or as base64 if it is not UTF-8."""

    name: str
    value: str | None = None
    value_base64: str | None = None


class DeadLetterDetail(DeadLetterSummary):
    """A dead letter with its message. Bytes that are not UTF-8 are in the fields `…_base64`."""

    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    """Null = a deletion, unless `value_base64` is present."""
    value_base64: str | None = None
    headers: tuple[DeadLetterHeader, ...]
    """The original headers of the message."""
    tenant: str | None = None
    """Null = the tenant of its topic."""
    failed_at: str
    """The position of the failed message, `topic/partition/offset`."""
    worker: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, entry: DeadLetter) -> Self:
        """Return a dead letter with its message."""
        return cls(
            **_summary(entry),
            **_bytes("key", entry.record.key),
            **_bytes("value", entry.record.value),
            headers=tuple(DeadLetterHeader(name=name, **_bytes("value", value)) for name, value in entry.headers),
            tenant=entry.tenant,
            failed_at=entry.failed_position,
            worker=entry.record.header(DEAD_WORKER),
            traceback=entry.record.header(DEAD_TRACEBACK),
        )


def _summary(entry: DeadLetter) -> dict[str, object]:
    return {
        "id": entry.id,
        "at": entry.dead_lettered_at,
        "topic": entry.topic,
        "error": entry.error,
        "message": entry.error_message,
        "state": entry.state,
        "redrives": entry.redrives,
        "redriven": entry.redriven,
    }


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
