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
    """Asks questions with a fixed concurrency; cancel the task of `run` to stop it.

    Args:
        ask: Asks a question, and returns when the answer has arrived.
        questions: Each is asked once per round, in a different order each round.
        concurrency: The number of concurrent asks.
        seed: The seed of the order.
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
        self._concurrency = concurrency
        self._consecutive_failures = 0
        self.answered = 0
        self.failed = 0

    async def run(self) -> None:
        """Ask until cancelled.

        Raises:
            UnavailableError: Too many asks in a row failed.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._concurrency):
                    tasks.create_task(self._ask_repeatedly())
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
                        f"{MAX_CONSECUTIVE_FAILURES} asks in a row failed, the last: {error}"
                    ) from error
            else:
                self.answered += 1
                self._consecutive_failures = 0


def shuffled_rounds(questions: Sequence[str], seed: int) -> Iterator[str]:
    """Yield every question once per round, without end, each round in a different order."""
    order = random.Random(seed)  # noqa: S311 - not for security
    while True:
        yield from order.sample(questions, len(questions))
