"""Deadlines: read from a header, given where there is none, and refused where they are absurd."""

from typing import Final

from poise.contracts.envelope import DEADLINE
from poise.contracts.fault import FieldError
from poise.contracts.topics import HOUR, Deadlines, Topic
from poise.errors import InvalidMessageError

MAX_DISTANCE: Final = 12 * HOUR
"""A deadline further than this from the record's timestamp is a mistake, not a wish."""


def resolve_deadline(header: int | None, timestamp: float, limits: Deadlines) -> float:
    """The absolute deadline of a message, unix seconds.

    Measured from the record's timestamp, so that a redelivery does not extend it.

    Args:
        header: `poise-deadline`, unix milliseconds, or None.
        timestamp: The record's timestamp, unix seconds.
        limits: The lane's default and longest.

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
    """To be put behind what is said of a deadline: that more was asked for than the topic allows; else nothing.

    Args:
        seconds: Those that were asked for.
        topic: Where the message goes.
    """
    longest = topic.deadlines.longest
    return f" ({seconds:.4g} s were asked for, and {topic.name} allows {longest:g} s)" if seconds > longest else ""
