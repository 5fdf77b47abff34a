"""A dead letter for machines: JSON, on the command line and over HTTP alike."""

import base64
from typing import Self

from pydantic import BaseModel, ConfigDict

from poise.dead_letters.model import TRACEBACK, WORKER, DeadLetter, DeadLetterState


class DeadLetterSummary(BaseModel):
    """A dead letter, as the list has it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """`tier/partition/offset`."""
    at: float
    """When it was set aside, unix seconds."""
    topic: str
    """The topic that it could not be handled from."""
    error: str
    """The error's type."""
    message: str
    state: DeadLetterState
    redrives: int
    """How often its message had been sent again before it died here."""
    redriven: str | None = None
    """Where it was sent again, `topic/partition/offset`."""

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """What the list has of a letter."""
        return cls(**_summary(letter))


class DeadLetterHeader(BaseModel):
    """One header; its value as text, or as base64 where it is not UTF-8."""

    name: str
    value: str | None = None
    value_base64: str | None = None


class DeadLetterDetail(DeadLetterSummary):
    """A dead letter, whole. Bytes that are not UTF-8 are base64, in the field that says so."""

    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    """Null = a deletion, unless `value_base64` is there."""
    value_base64: str | None = None
    headers: tuple[DeadLetterHeader, ...]
    """The message's own, as they were."""
    tenant: str | None = None
    """Null = its topic's tenant."""
    failed_at: str
    """Where the copy stood that could not be handled, `topic/partition/offset`."""
    worker: str | None = None
    traceback: str | None = None

    @classmethod
    def whole(cls, letter: DeadLetter) -> Self:
        """All of a letter."""
        return cls(
            **_summary(letter),
            **_bytes("key", letter.record.key),
            **_bytes("value", letter.record.value),
            headers=tuple(DeadLetterHeader(name=name, **_bytes("value", value)) for name, value in letter.headers),
            tenant=letter.tenant,
            failed_at=letter.failed_at,
            worker=letter.record.header(WORKER),
            traceback=letter.record.header(TRACEBACK),
        )


def _summary(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "at": letter.at,
        "topic": letter.topic,
        "error": letter.error,
        "message": letter.message,
        "state": letter.state,
        "redrives": letter.redrives,
        "redriven": letter.redriven,
    }


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
