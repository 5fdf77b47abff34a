"""Observer: collects records, scores, policies and decisions of one policy."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Final, Self

from poise.contracts.policy import Decision, Policy
from poise.contracts.record import RunRecord, Score
from poise.contracts.topics import DECISIONS, POLICY, RECORDS, SCORES
from poise.errors import SetupError, UnavailableError
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Record
from poise.worker.connection import MeshConnection

SCORE_TIMEOUT: Final = 120.0
"""Seconds for the last runs to be scored; evaluation may lag on a busy machine."""


class LabObserver:
    """Follows records, scores, policies and decisions from now on; `async with LabObserver(mesh, policy) as observer`.

    Args:
        mesh: The mesh.
        policy: The policy; runs of others are ignored.
    """

    def __init__(self, mesh: MeshConnection, policy: str) -> None:
        self.records: dict[str, RunRecord] = {}
        """By run."""
        self.scores: dict[str, tuple[int, Score]] = {}
        """By run: the offset and the score, without feedback."""
        self.policies: list[tuple[float, Policy]] = []
        """When each was written, unix seconds."""
        self.decisions: list[tuple[float, Decision]] = []
        self._mesh = mesh
        self._policy = policy
        self._last: LogReader | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            handlers = (
                (POLICY, self._in_force),
                (DECISIONS, self._decided),
                (RECORDS, self._record),
                (SCORES, self._score),
            )
            for topic, handler in handlers:
                self._last = LogReader(self._mesh.logs.access, topic.name, handler, start="end")
                await stack.enter_async_context(self._last)
                await self._last.wait_until_open()
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def scored(self, runs: Iterable[str]) -> None:
        """Wait until some runs have been recorded and scored.

        Raises:
            UnavailableError: Some were not within `SCORE_TIMEOUT`.
            SetupError: A topic can no longer be read.
        """
        wanted = set(runs)
        if self._last is None:
            raise SetupError("the observer is not open: use it inside `async with`")
        try:
            async with asyncio.timeout(SCORE_TIMEOUT):
                await self._last.wait_until(lambda: wanted <= self.records.keys() & self.scores.keys())
        except TimeoutError as error:
            missing = wanted - (self.records.keys() & self.scores.keys())
            raise UnavailableError(
                f"{len(missing)} of {len(wanted)} runs were not scored within {SCORE_TIMEOUT:g} s: the machine is too"
                " busy, lower --rate"
            ) from error

    def _record(self, record: Record) -> None:
        found = RunRecord.parse(record.value or b"")
        if found.draw is not None and found.draw.policy == self._policy:
            self.records[found.run_id] = found

    def _score(self, record: Record) -> None:
        found = Score.parse(record.value or b"")
        if found.policy == self._policy and found.feedback is None:
            self.scores.setdefault(found.run_id, (record.offset, found))

    def _in_force(self, record: Record) -> None:
        if record.value is not None and record.key == self._policy.encode():
            self.policies.append((record.timestamp, Policy.parse(record.value)))

    def _decided(self, record: Record) -> None:
        if record.key == self._policy.encode():
            self.decisions.append((record.timestamp, Decision.parse(record.value or b"")))
