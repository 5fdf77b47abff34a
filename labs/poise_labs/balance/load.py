"""Load generator: asks questions with a fixed concurrency until it is cancelled."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from poise.errors import PoiseError, UnavailableError

CONCURRENCY: Final = 4
"""Concurrent asks: one is generated, one is retrieved, one waits, one is scored."""
MAX_CONSECUTIVE_FAILURES: Final = 10
"""Consecutive failed asks after which the load generator stops with an error."""


class LoadGenerator:
    """Asks one question after another; a task that runs `flow` is cancelled to stop it.

    Args:
        ask: Asks one question, and returns when its answer is there.
        questions: What is asked, each once a round, in an order of its own each round.
        concurrency: Asks on their way at most.
        seed: Of the order.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[object]],
        questions: Sequence[str],
        *,
        concurrency: int = CONCURRENCY,
        seed: int = 0,
    ) -> None:
        self._ask = ask
        self._questions = shuffled_rounds(questions, seed)
        self._at_once = concurrency
        self._consecutive_failures = 0
        self.answered = 0
        self.failed = 0

    async def run(self) -> None:
        """Ask without end.

        Raises:
            UnavailableError: Nothing answers any more.
        """
        try:
            async with asyncio.TaskGroup() as asking:
                for _ in range(self._at_once):
                    asking.create_task(self._ask_repeatedly())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _ask_repeatedly(self) -> None:
        while True:
            try:
                await self._ask(next(self._questions))
            except PoiseError as error:
                self.failed += 1
                self._consecutive_failures += 1
                if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
                    raise UnavailableError(
                        f"{MAX_CONSECUTIVE_FAILURES} asks in a row brought no answer, the last: {error}"
                    ) from error
            else:
                self.answered += 1
                self._consecutive_failures = 0


def shuffled_rounds(questions: Sequence[str], seed: int) -> Iterator[str]:
    """Every question once a round, without end, each round in another order."""
    order = random.Random(seed)  # noqa: S311 - an order of questions is no secret
    while True:
        yield from order.sample(questions, len(questions))
