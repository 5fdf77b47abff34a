"""The steps of a run: called, timed, and noted for its record."""

import time
from typing import Protocol

from poise.contracts import Message, Request, StepRecord
from poise.contracts.message import ReplyT
from poise.contracts.topics import Topic
from poise.errors import FaultError, PoiseError
from poise.messaging import Position, Stream


class Run(Protocol):
    """What the workflow needs of the message's context."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def stream(self) -> Stream | None:
        """Where the answer's words go as they come; None = nobody asked for that."""

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


class Steps:
    """Calls the steps of one run and keeps how long each took and how it ended.

    Args:
        run: The run.
        reserve: The share of the time that is left now which no step may use: in it a lower rung answers.
    """

    def __init__(self, run: Run, *, reserve: float) -> None:
        self._run = run
        self._kept_back = run.remaining() * reserve
        self._started = time.perf_counter()
        self.records: list[StepRecord] = []

    async def call(self, request: Request[ReplyT], *, step: str, stream: bool = False) -> ReplyT:
        """Call a tier.

        Args:
            request: What is asked.
            step: Its name.
            stream: Its words are the answer's: whoever asked for them has them as they come.

        Raises:
            PoiseError: A fault came back, or nothing came in the time that a step may use.
        """
        started = time.perf_counter()
        fault = None
        try:
            left = max(0.0, self._run.remaining() - self._kept_back)
            return await self._run.call(request, step=step, timeout=left, stream=stream)
        except PoiseError as error:
            fault = error.fault().type
            raise
        finally:
            ms = round((time.perf_counter() - started) * 1_000, 1)
            self.records.append(StepRecord(step=step, ms=ms, fault=fault))

    def timings(self) -> dict[str, float]:
        """Milliseconds by step, and `total` so far."""
        total = round((time.perf_counter() - self._started) * 1_000, 1)
        return {**{record.step: record.ms for record in self.records}, "total": total}


def in_words(step: str, error: PoiseError) -> str:
    """Why a step brought nothing, for the reader of an answer."""
    if isinstance(error, FaultError):
        fault = error.fault()
        return f"{step} failed: {fault.title.lower()}: {fault.detail}"
    return f"{step} failed: {error}"
