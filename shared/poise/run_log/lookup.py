"""The look-up of finished runs: their records, spans and scores, found by reading the topics.

Every look-up by time starts earlier by the clock skew: the broker, the worker that wrote and this process may disagree
on the time by that much.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from poise.contracts.record import RunRecord, Score
from poise.contracts.run_id import run_started_at
from poise.contracts.span import SpanRecord
from poise.contracts.topics import RECORDS, SCORES, SPANS
from poise.errors import MissingTopicError, RetryableError, SetupError, TerminalError, UnavailableError
from poise.kafka.log_lookup import Window
from poise.kafka.log_stream import LogStream, Start
from poise.kafka.logs import Logs
from poise.kafka.record import Position, Record
from poise.run_log.decoding import decodable
from poise.run_log.run_trace import RunTrace, is_complete
from poise.run_log.search_windows import search_windows

READ_TIMEOUT: Final = 60.0
"""Seconds for reading scores."""
RETRY_AFTER: Final = 10.0
"""Seconds until a look-up that timed out is worth a retry."""
CONCURRENT_LOOKUPS: Final = 4
"""Records that `RunLog.records` looks up at the same time."""
RECENT_SCORES: Final = 10_000
"""Records of `poise.scores` that `RunLog.recent_scores` reads."""
TRACE_ATTEMPTS: Final = 4
"""How often to read the spans of a run that has only just ended."""
TRACE_INTERVAL: Final = 0.3
"""Seconds between two attempts; workers write their spans every 0.2 s."""


@dataclass(frozen=True, slots=True)
class LookupLimits:
    """What the look-up of one record may cost."""

    timeout: float = 30.0
    """Seconds, including the wait for the slots."""
    lookup_slots: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """Held while the usual place of a record is read, such as a semaphore."""
    search_slots: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """Held while the rest of a partition is read."""


class RunLog:
    """Looks up finished runs.

    Args:
        logs: Reads the topics.
        clock_skew: Seconds by which two clocks may differ.
        limits: The limits of one look-up of a record.
    """

    def __init__(self, logs: Logs, clock_skew: float, limits: LookupLimits | None = None) -> None:
        self._logs = logs
        self._clock_skew = clock_skew
        self._limits = limits or LookupLimits()

    async def record(self, run: str) -> RunRecord | None:
        """Return the last record of a run; None if there is none now.

        Raises:
            RetryableError: The look-up took longer than its timeout.
            UnavailableError: The records cannot be read.
            TerminalError: The record cannot be decoded.
        """
        found = await self._last_record(run)
        if found is None:
            return None
        try:
            return RunRecord.parse(found.value or b"")
        except ValidationError as error:
            raise TerminalError(f"the record of run {run} cannot be read: {error}") from error

    async def records(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return the records of runs by run id, without those that are missing or cannot be decoded.

        The errors are those of `record`, except `TerminalError`.
        """
        slots = asyncio.Semaphore(CONCURRENT_LOOKUPS)

        async def find(run: str) -> Record | None:
            async with slots:
                return await self._last_record(run)

        found = await asyncio.gather(*map(find, runs))
        return {
            run: body
            for run, record in zip(runs, found, strict=True)
            for _, body in decodable(RunRecord, [] if record is None else [record])
        }

    async def _last_record(self, run: str) -> Record | None:
        windows = search_windows(run, time.time(), self._clock_skew)
        try:
            async with asyncio.timeout(self._limits.timeout):
                found = await self._search(run, windows.usual, self._limits.lookup_slots)
                return found or await self._search(run, windows.rest, self._limits.search_slots)
        except (MissingTopicError, SetupError) as error:
            raise UnavailableError(f"the records cannot be read: {error}") from error
        except TimeoutError as error:
            reason = f"run {run}: {RECORDS.name} was not searched to its end within {self._limits.timeout:g} s"
            raise RetryableError(reason, retry_after=RETRY_AFTER) from error

    async def _search(
        self, run: str, windows: Sequence[Window], slot: AbstractAsyncContextManager[object]
    ) -> Record | None:
        if not windows:
            return None
        async with slot:
            return await self._logs.lookups.last_of_key(RECORDS.name, run, windows)

    async def trace(self, run: str) -> RunTrace:
        """Return the spans and the record of a run; retry for about a second while the trace is incomplete.

        The spans are read from the start of the run, the record from the windows that `record` searches.
        """
        began = run_started_at(run)
        start: Start = "beginning" if began is None else began - self._clock_skew
        search = search_windows(run, time.time(), self._clock_skew)
        windows: Sequence[Window] = (*search.usual, *search.rest)
        lookups = self._logs.lookups
        trace = RunTrace((), None)
        written: dict[Position, Record] = {}
        recorded: Record | None = None
        for attempt in range(TRACE_ATTEMPTS):
            await asyncio.sleep(TRACE_INTERVAL if attempt else 0)
            read_at = time.time()
            spans, record = await asyncio.gather(
                lookups.read_key(SPANS.name, run, start=start), lookups.last_of_key(RECORDS.name, run, windows)
            )
            written |= {record.position: record for record in spans}
            recorded = record or recorded
            trace = RunTrace(
                tuple(span for _, span in decodable(SpanRecord, written.values())),
                next((body for _, body in decodable(RunRecord, [recorded] if recorded else [])), None),
            )
            if is_complete(trace.spans):
                break
            start = read_at - self._clock_skew  # earlier records have been read
            windows = (Window(start),)
        return trace

    async def scores(self, since: float) -> list[Score]:
        """Return the scores of the runs that finished since a time, unix seconds."""
        found: list[Score] = []
        async with self._logs.open_stream(SCORES.name, start=since - self._clock_skew) as stream:
            async for batch in stream.read_to_end(within=READ_TIMEOUT):
                found += [score for _, score in decodable(Score, batch) if score.at >= since]
        return found

    async def recent_scores(self, policy: str) -> list[Score]:
        """Return the scores of a policy among the last records of its partition."""
        partition = await self._logs.partition_of(SCORES.name, policy.encode())
        async with self._logs.open_stream(SCORES.name, start="end", partitions=[partition]) as stream:
            start = {partition: max(0, stream.ends[partition] - RECENT_SCORES)}
        async with self._logs.open_stream(SCORES.name, start=start, partitions=[partition]) as stream:
            return [score async for _, score in scores_of_policy(stream, policy)]


async def scores_of_policy(stream: LogStream, policy: str) -> AsyncIterator[tuple[int, Score]]:
    """Yield the scores of a policy with their offsets, up to the present end of the stream."""
    async for batch in stream.read_to_end(within=READ_TIMEOUT):
        for record, score in decodable(Score, batch):
            if score.policy == policy:
                yield record.offset, score
