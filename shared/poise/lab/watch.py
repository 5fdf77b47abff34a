"""Watching: what the mesh says of the runs of one policy, as it says it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final, Self

from poise.contracts.policy import Decision, Policy
from poise.contracts.record import RunRecord, Score
from poise.contracts.topics import DECISIONS, POLICY, RECORDS, SCORES, Topic
from poise.errors import UnavailableError
from poise.messaging import Mesh, Record

Take = Callable[[Record], None]

SCORED_WITHIN: Final = 120.0
"""Seconds for the last runs to be scored; evaluation may lag behind where the machine is busy."""


class Watch:
    """Follows records, scores, policies and decisions from now on; `async with Watch(mesh, policy) as watch`.

    Args:
        mesh: The mesh.
        policy: The policy whose runs are meant; others are passed over.
    """

    def __init__(self, mesh: Mesh, policy: str) -> None:
        self.records: dict[str, RunRecord] = {}
        """By run."""
        self.scores: dict[str, tuple[int, Score]] = {}
        """By run: its offset, and what it says. Feedback is not among them."""
        self.policies: list[tuple[float, Policy]] = []
        """When each was written, unix seconds."""
        self.decisions: list[tuple[float, Decision]] = []
        self._mesh = mesh
        self._policy = policy
        self._news = asyncio.Event()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            takes = (
                (RECORDS, self._record),
                (SCORES, self._score),
                (POLICY, self._in_force),
                (DECISIONS, self._decided),
            )
            for topic, take in takes:
                await self._follow(stack, topic, take)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def scored(self, runs: Iterable[str]) -> None:
        """Wait until some runs have been recorded and scored.

        Raises:
            UnavailableError: Some were not.
        """
        wanted = set(runs)
        try:
            async with asyncio.timeout(SCORED_WITHIN):
                while missing := wanted - (self.records.keys() & self.scores.keys()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            told = f"of {len(wanted)} runs {len(missing)} were not scored within {SCORED_WITHIN:g} s"
            raise UnavailableError(f"{told}: the machine is too busy, lower --rate") from error

    async def _follow(self, stack: AsyncExitStack, topic: Topic, take: Take) -> None:
        follower = await stack.enter_async_context(self._mesh.follow(topic.name, start="end"))

        async def reading() -> None:
            async for batch in follower:
                for record in batch:
                    take(record)
                self._news.set()

        task = asyncio.create_task(reading())
        stack.push_async_callback(_ended, task)

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


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
