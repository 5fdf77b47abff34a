"""Run ids: a UUIDv7 (RFC 9562) from the gateway, or a UUIDv5 of the ask's original position in Kafka."""

from hashlib import sha1
from random import Random
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_NAMESPACE: Final = UUID("722bc74f-42eb-5459-b401-c9dd78025bb1")
"""The UUIDv5 of `urn:poise:run`. Changing it would change the run id of the same ask."""
ROOT_STEP: Final = "ask"
"""The step of the run itself, and of a message that names no step."""
_UUID7, _UUID5 = 7, 5
"""The UUID versions of run ids: from a gateway, and from the ask's position in Kafka."""


def new_run_id(now: float, random: Random) -> str:
    """Return a new run id, which sorts by time and contains the start time of the run.

    Args:
        now: Unix seconds, truncated to milliseconds.
        random: The source of 74 random bits; `random.SystemRandom()` outside tests.
    """
    value = (int(now * 1000) & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | random.getrandbits(12) << 64
    value |= 0b10 << 62 | random.getrandbits(62)
    return str(UUID(int=value))


def derive_run_id(topic: str, partition: int, offset: int, timestamp: float) -> str:
    """Return the run id of an ask from Kafka, given the position and time of the original: copies have the same id.

    The time (unix seconds, in whole milliseconds) distinguishes asks at the same position of a topic that was deleted
    and recreated.
    """
    name = f"{topic}/{partition}/{offset}/{round(timestamp * 1_000)}"
    # The same as uuid5 (RFC 9562, §5.5), in a third of the time: every message without a run gets its id here.
    digest = bytearray(sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def run_started_at(run_id: str) -> float | None:
    """Return when the run began, unix seconds; None if the id does not contain it (it is not a UUIDv7)."""
    try:
        value = UUID(run_id)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == _UUID7 else None


def is_run_id(text: str) -> bool:
    """Return whether a text has the form of a run id."""
    try:
        parsed = UUID(text)
    except ValueError:
        return False
    return str(parsed) == text and parsed.version in {_UUID7, _UUID5}


RUN_ID_PATTERN: Final = (
    rf"^[0-9a-f]{{8}}-[0-9a-f]{{4}}-[{_UUID5}{_UUID7}][0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$"
)
"""The texts that `is_run_id` accepts, as a pattern for JSON Schemas."""


def _validate_run_id(text: str) -> str:
    if not is_run_id(text):
        raise PydanticCustomError("run_id", "is not a run id: use the `run_id` of an answer")
    return text


RunId = Annotated[str, AfterValidator(_validate_run_id), Field(json_schema_extra={"pattern": RUN_ID_PATTERN})]
"""The id of a run, from a client."""
