"""Deadlines: read from a header, or set to the default; absurd ones are refused."""

from typing import Final

from poise.contracts.fault import FieldError
from poise.contracts.headers import DEADLINE
from poise.contracts.topics import HOUR, Deadlines, Topic
from poise.errors import InvalidMessageError

MAX_DISTANCE: Final = 12 * HOUR
"""Seconds; a deadline further than this from the record's timestamp is a mistake."""


def resolve_deadline(header: int | None, timestamp: float, limits: Deadlines) -> float:
    """Return the absolute deadline of a message, in Unix seconds.

    It is measured from the record's timestamp, so that a redelivery does not extend it.

    Args:
        header: `poise-deadline`, Unix milliseconds, or None.
        timestamp: The record's timestamp, Unix seconds.
        limits: The default and the maximum of the lane.

    Raises:
        InvalidMessageError: It is more than twelve hours away from the record's timestamp, in either direction.
    """
    if header is None:
        return timestamp + limits.default
    deadline = header / 1_000
    if abs(deadline - timestamp) > max(MAX_DISTANCE, limits.longest):
        detail = (
            f"{header} is more than {MAX_DISTANCE / HOUR:.0f} h away from when the message was written "
            f"({timestamp * 1_000:.0f}); give unix milliseconds"
        )
        raise InvalidMessageError(f"{DEADLINE}: {detail}", [FieldError(field=DEADLINE, detail=detail)])
    return min(deadline, timestamp + limits.longest)


def limit_note(seconds: float, topic: Topic) -> str:
    """Return a note for messages about a deadline: the topic allows less than was requested. Empty if it does not.

    Args:
        seconds: The requested time.
        topic: The topic of the message.
    """
    longest = topic.deadlines.longest
    return f" ({seconds:.4g} s were requested, and {topic.name} allows {longest:g} s)" if seconds > longest else ""
