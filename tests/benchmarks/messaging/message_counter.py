"""Counts the handled messages of a worker under test, and reports them on standard output."""

import asyncio
import os
import time
from pathlib import Path

from tests.benchmarks.messaging.job import Job, terms
from tests.benchmarks.worker_process import say

RSS_EVERY = 5_000


class MessageCounter:
    """Counts handled messages; the handler of every contestant calls `handle`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._timed = job.work == "timed"
        self.reset()

    def reset(self) -> None:
        """Reset all counts."""
        self._count = 0
        self._first: float | None = None
        self._warm = (0.0, 0.0)
        self._latencies: list[tuple[float, float]] = []
        self._ends: list[float] = []
        self._began = time.process_time()
        self._rss: list[int] = []

    async def handle(self, query: str) -> None:
        """Handle a message: wait as long as it requests, and count it."""
        if self._timed:
            if self._first is None:
                self._first = time.time()
            scheduled, pause = terms(query)
            if pause:
                await asyncio.sleep(pause)
            now = time.time()
            self._latencies.append((now - scheduled, pause))
            self._ends = [now]
        self._count += 1
        if self._count == max(1, self._job.skip):
            self._warm = (time.time(), time.process_time())
        if self._count % RSS_EVERY == 0:
            self._rss.append(resident())
        if self._count == self._job.expect:
            self.report()

    def report(self) -> None:
        """Write the report and reset the counts."""
        counted, now, cpu = self._count - max(1, self._job.skip), time.time(), time.process_time()
        say(
            "report",
            handled=self._count,
            first=self._first or self._warm[0],
            last=now,
            rate=counted / max(1e-9, now - self._warm[0]),
            cpu=(cpu - self._warm[1]) / max(1, counted),
            spent=cpu - self._began,
            latencies=self._latencies,
            ends=self._ends,
            rss=self._rss,
        )
        self.reset()


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 without `/proc`."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
