"""Run ids: a UUIDv7 (RFC 9562) where the gateway names the run, else a UUIDv5 of the ask's first place in Kafka."""

from hashlib import sha1
from random import Random
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_NAMESPACE: Final = UUID("722bc74f-42eb-5459-b401-c9dd78025bb1")
"""uuid5 of `urn:poise:run`; changing it would give the same ask another run id."""
ROOT_STEP: Final = "ask"
"""The step that is the run itself, and that of a message which names none."""
_UUID7, _UUID5 = 7, 5
"""The versions of UUID that a run id may be: given by a gateway, or made of the ask's place in Kafka."""


def new_run_id(now: float, random: Random) -> str:
    """A new run id that sorts by time and tells when the run began.

    Args:
        now: Unix seconds, kept to the millisecond.
        random: Where its 74 random bits come from; `random.SystemRandom()` outside tests.
    """
    value = (int(now * 1000) & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | random.getrandbits(12) << 64
    value |= 0b10 << 62 | random.getrandbits(62)
    return str(UUID(int=value))


def derive_run_id(topic: str, partition: int, offset: int, timestamp: float) -> str:
    """The run id of an ask that came by Kafka: the same for every copy of it, given the first copy's place and time.

    The time (unix seconds, as Kafka has it to the millisecond) tells apart asks that stand at the same place of a topic
    that was made again.
    """
    name = f"{topic}/{partition}/{offset}/{round(timestamp * 1_000)}"
    # As uuid5 does it (RFC 9562, §5.5), at a third of the time: every message without a run is given its id here.
    digest = bytearray(sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def run_started_at(run_id: str) -> float | None:
    """When the run began, unix seconds; None when the id does not tell (it is not a UUIDv7)."""
    try:
        value = UUID(run_id)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == _UUID7 else None


def is_run_id(text: str) -> bool:
    """Whether there can be a run of that id."""
    try:
        given = UUID(text)
    except ValueError:
        return False
    return str(given) == text and given.version in {_UUID7, _UUID5}


RUN_ID_PATTERN: Final = (
    rf"^[0-9a-f]{{8}}-[0-9a-f]{{4}}-[{_UUID5}{_UUID7}][0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$"
)
"""What `is_run_id` accepts, as a pattern for JSON Schemas."""


def _validate_run_id(text: str) -> str:
    if not is_run_id(text):
        raise PydanticCustomError("run_id", "can be no run's id: it is the `run_id` of an answer")
    return text


RunId = Annotated[str, AfterValidator(_validate_run_id), Field(json_schema_extra={"pattern": RUN_ID_PATTERN})]
"""The id of a run, given by a client."""
