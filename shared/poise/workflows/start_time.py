"""Start time: when a run was requested; the same in every execution."""

from typing import Final

from poise.contracts.topics import BATCH, HOUR

MAX_RUN_SECONDS: Final = BATCH.longest + HOUR
"""Maximum seconds of a run, including all its delayed retries."""


def start_time(written: float, now: float) -> float:
    """Return when a run was requested, unix seconds; `now` if the request's time is impossible.

    Args:
        written: When its request was written, unix seconds, as the client claims.
        now: Unix seconds.
    """
    return written if now - MAX_RUN_SECONDS <= written <= now else now
