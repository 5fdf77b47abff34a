"""Records: that of one run, found in the log by the run's id; see `poise.run_log.records`."""

import asyncio
from typing import Final

from pydantic import ValidationError

from poise.contracts import RunRecord
from poise.contracts.topics import RECORDS
from poise.errors import RetryableError, SetupError, TerminalError, UnavailableError
from poise.kafka.logs import Logs
from poise.run_log.records import search_windows
from poise.telemetry import semconv, span
from poise.text.error_text import words_of

AT_ONCE: Final = 4
"""Runs that a worker looks for at once."""
FOUND_WITHIN: Final = 30.0
"""Seconds; a log that is not read in that time is tried again later."""
AGAIN_AFTER: Final = 10.0
"""Seconds until it is."""


class Records:
    """The records of finished runs.

    Args:
        logs: Reads `poise.records`.
        clock_skew: Seconds by which the clocks of two machines may differ.
    """

    def __init__(self, logs: Logs, clock_skew: float) -> None:
        self._logs = logs
        self._clock_skew = clock_skew
        self._lookups = asyncio.Semaphore(AT_ONCE)

    async def find(self, run: str, now: float) -> RunRecord | None:
        """The record of a run; None if there is none now.

        Args:
            run: The run's id.
            now: Unix seconds.

        Raises:
            RetryableError: The log could not be read.
            TerminalError: The record is there and cannot be read.
        """
        where = search_windows(run, now, self._clock_skew)
        try:
            with span(semconv.FIND_RUN):
                async with self._lookups, asyncio.timeout(FOUND_WITHIN):
                    found = await self._logs.lookups.last_of_key(RECORDS.name, run, (*where.near, *where.far))
        except (SetupError, UnavailableError, TimeoutError) as error:
            why = words_of(error, f"not read within {FOUND_WITHIN:g} s")
            told = f"run {run} cannot be looked for in {RECORDS.name}: {why}"
            raise RetryableError(told, retry_after=AGAIN_AFTER) from error
        try:
            return None if found is None else RunRecord.parse(found.value or b"")
        except ValidationError as error:
            raise TerminalError(f"the record of run {run} cannot be read: {error}") from error
