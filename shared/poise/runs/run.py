"""Run: what a workflow does its steps with."""

import time
from typing import Protocol

from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.record import StepRecord
from poise.contracts.topics import Lane, Topic
from poise.errors import PoiseError
from poise.messaging import Position, Stream
from poise.runs.notes import Notes


class Door(Protocol):
    """What a run needs of the mesh: a message's context."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def lane(self) -> Lane:
        """Its traffic class."""

    @property
    def stream(self) -> Stream | None:
        """Where the answer's words go as they come; None = nobody asked for that."""

    @property
    def min_epoch(self) -> str | None:
        """The epoch that retrieval must have come to; None = any."""

    def remaining(self) -> float:
        """Seconds until the deadline."""

    async def call(
        self,
        request: Request[ReplyT],
        *,
        step: str,
        timeout: float | None = None,  # noqa: ASYNC109
        stream: bool = False,
    ) -> ReplyT:
        """Call another tier inside this run."""

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        """Publish a message of this run."""


class Run:
    """One execution of a workflow.

    Args:
        door: The way to the mesh.
    """

    def __init__(self, door: Door) -> None:
        self.id = door.run
        self.tenant = door.tenant
        self.lane = door.lane
        self.min_epoch = door.min_epoch
        """The epoch that passages must have come to; None = any. Every call of the run carries it."""
        self.words = door.stream
        """Where the answer's words go as they come; None = nobody asked for that."""
        self.steps: list[StepRecord] = []
        """The calls that ended, and how."""
        self.notes = Notes()
        self.started = time.time()
        """Unix seconds."""
        self._door = door
        self._kept_back = 0.0

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return self._door.remaining()

    def keep_back(self, share: float) -> None:
        """Keep a share of the time that is left now from the steps: in it a lower rung answers."""
        self._kept_back = self.remaining() * share

    def for_steps(self) -> float:
        """Seconds that a step may still use."""
        return max(0.0, self.remaining() - self._kept_back)

    async def call(
        self,
        request: Request[ReplyT],
        *,
        id: str | None = None,  # noqa: A002 - it is one
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent along, and every hop honours it
    ) -> ReplyT:
        """Call a tier.

        Args:
            request: What is asked; its type says which tier answers.
            id: The step's id, when it is to have one of its own.
            timeout: Seconds; what the steps may still use always holds too.

        Raises:
            PoiseError: A fault came back, or nothing came in time.
        """
        return await self._call(request, id, timeout, stream=False)

    async def stream(
        self,
        request: Request[ReplyT],
        *,
        id: str | None = None,  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> ReplyT:
        """Call a tier whose words are the answer's: whoever asked for them has them as they come. See `call`."""
        return await self._call(request, id, timeout, stream=True)

    async def _call(
        self,
        request: Request[ReplyT],
        id: str | None,  # noqa: A002
        timeout: float | None,  # noqa: ASYNC109
        *,
        stream: bool,
    ) -> ReplyT:
        step = id or request.kind.partition("/")[0]
        began, fault = time.perf_counter(), None
        left = self.for_steps() if timeout is None else min(timeout, self.for_steps())
        try:
            return await self._door.call(request, step=step, timeout=left, stream=stream)
        except PoiseError as error:
            fault = error.fault().type
            raise
        finally:
            ms = round((time.perf_counter() - began) * 1_000, 1)
            self.steps.append(StepRecord(step=step, ms=ms, fault=fault))

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        """Publish a message of this run and wait until the broker has it; None is a tombstone.

        Raises:
            UnavailableError: The broker did not take it.
        """
        return await self._door.publish(topic, message, key=key)

    def timings(self) -> dict[str, float]:
        """Milliseconds by step, and `total` so far."""
        total = round((time.time() - self.started) * 1_000, 1)
        return {**{record.step: record.ms for record in self.steps}, "total": total}
