"""Start time: when a run was asked for, which is the same however often it is begun again."""

from typing import Final

from poise.contracts.topics import BATCH, HOUR

MAX_RUN_SECONDS: Final = BATCH.longest + HOUR
"""Seconds that a run may take, with all its delayed retries."""


def start_time(written: float, now: float) -> float:
    """When a run began, unix seconds: when its request was written, unless that is no time at which it can have been.

    Args:
        written: When its request was written, unix seconds; a client may write what it likes.
        now: Unix seconds.
    """
    return written if now - MAX_RUN_SECONDS <= written <= now else now
