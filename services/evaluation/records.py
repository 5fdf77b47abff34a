"""Records: that of one run, found in the log by the run's id.

No table of runs is kept for it: any worker finds the record of any run that is kept, after a restart too. What that
costs is reading a part of one partition. The id of a run that came by a gateway says when the run began, and its record
stands a few records behind that time. An id made of an ask's place in Kafka says nothing: the partition is searched
from its end backwards, by windows that grow, for most feedback is about an answer that was just given.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from poise.contracts import RunRecord
from poise.contracts.run_id import started_at
from poise.contracts.topics import DAY, HOUR, RECORDS
from poise.errors import RetryableError, SetupError, TerminalError, UnavailableError
from poise.messaging import Mesh, Record
from poise.messaging.follow import Start
from poise.telemetry import span, table

AT_ONCE: Final = 4
"""Runs that a worker looks for at once."""
FOUND_WITHIN: Final = 30.0
"""Seconds; a log that is not read in that time is tried again later."""
AGAIN_AFTER: Final = 10.0
"""Seconds until it is."""
WINDOWS: Final = (600.0, 2 * HOUR, DAY)
"""Seconds back from now, one after another; then all there is."""


class Records:
    """The records of finished runs."""

    def __init__(self) -> None:
        self._lookups = asyncio.Semaphore(AT_ONCE)

    async def find(self, mesh: Mesh, run: str, now: float) -> RunRecord | None:
        """The record of a run; None if there is none now.

        Args:
            mesh: Where to look.
            run: The run's id.
            now: Unix seconds.

        Raises:
            RetryableError: The log could not be read.
            TerminalError: The record is there and cannot be read.
        """
        try:
            with span(table.FIND_RUN):
                async with self._lookups, asyncio.timeout(FOUND_WITHIN):
                    found = await _search(mesh, run.encode(), starts(run, now, mesh.settings.clock_skew))
        except (SetupError, UnavailableError, TimeoutError) as error:
            why = str(error) or f"not read within {FOUND_WITHIN:g} s"
            told = f"run {run} cannot be looked for in {RECORDS.name}: {why}"
            raise RetryableError(told, retry_after=AGAIN_AFTER) from error
        try:
            return None if found is None else RunRecord.parse(found.value or b"")
        except ValidationError as error:
            raise TerminalError(f"the record of run {run} cannot be read: {error}") from error


def starts(run: str, now: float, skew: float) -> Sequence[Start]:
    """Where to begin to search for a run's record, one after another; each search ends where the one before began.

    Args:
        run: The run's id.
        now: Unix seconds.
        skew: Seconds by which two clocks may differ.
    """
    began = started_at(run)
    return [*(now - window for window in WINDOWS), "beginning"] if began is None else [began - skew]


async def _search(mesh: Mesh, run: bytes, begin_at: Sequence[Start]) -> Record | None:
    partition = await mesh.partition_of(RECORDS.name, run)
    end: int | None = None
    for start in begin_at:
        async with mesh.follow(RECORDS.name, start=start, partitions=[partition]) as log:
            first = log.position(partition)
            if end is not None:
                log.ends[partition] = end
            async for batch in log.read_to_end():
                for record in batch:
                    if record.key == run:
                        return record
        end = first
    return None
