"""A Kafka producer that is replaced when it becomes unusable.

aiokafka assigns sequence numbers to the records of an idempotent producer when it takes a batch from its queue, and
never takes a number back. So a batch that ends in an error leaves a gap, and Kafka refuses everything after a gap:

    the broker refuses a batch (too large, not allowed)  → later ones get OutOfOrderSequenceNumber, for ever
    a partition has no leader, its batch expires unsent  → the same
    the broker has forgotten the producer                → UnknownProducerId, for ever
    aiokafka's sender ends on an error                   → every send raises that error, for ever

The remedy is the same for all: a new producer with a new id, whose sequence numbers start at 0. The old one completes
its pending batches, and is closed when they are done, or after a time limit.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from poise.errors import UnavailableError
from poise.kafka.patches.producer_close import ABORT_TIMEOUT, close
from poise.kafka.shielded import shielded_start
from poise.telemetry import count, semconv
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 10.0
"""Seconds for connecting and getting a producer id. The next attempt uses the brokers that are known at that time."""
RETRY_BACKOFF: Final = 0.1
"""Seconds between two attempts, or two replacements in a row; doubles each time."""
MAX_RETRY_BACKOFF: Final = 2.0
STABLE_AFTER: Final = 10.0
"""Seconds after which a replacement no longer counts as one in a row."""
DRAIN_TIMEOUT: Final = 60.0
"""Seconds for a replaced producer to complete its pending batches: longer than any caller waits."""


class ReplacingProducer:
    """Holds one open AIOKafkaProducer at a time; each replacement creates another.

    Args:
        create: Creates a producer, not yet started.
        idempotent: Whether records have sequence numbers, so that any failed batch leaves a gap.
    """

    def __init__(self, create: Callable[[], AIOKafkaProducer], *, idempotent: bool) -> None:
        self.problem: str | None = None
        """Why there is no producer; None = there is one, or the first one is being opened."""
        self._create = create
        self._idempotent = idempotent
        self._current: AIOKafkaProducer | None = None
        self._opening: asyncio.Task[AIOKafkaProducer] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._opened_at = 0.0
        self._backoff = 0.0
        self._closed = False

    @property
    def current(self) -> AIOKafkaProducer | None:
        """The producer to send with; None = wait for `ready`."""
        return self._current

    async def ready(self) -> AIOKafkaProducer:
        """Return the producer to send with, as soon as there is one. Concurrent callers share one opening.

        Raises:
            UnavailableError: It is closed.
        """
        if self._closed:
            raise UnavailableError("nothing can be sent any more: the process is disconnecting")
        if self._current is not None:
            return self._current
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    def report_failure(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Replace the producer if an error of a batch, or of the producer, makes it unusable.

        If many batches fail together, only the first one replaces it: then it is no longer the current producer.
        """
        if self._closed or producer is not self._current or not (self._idempotent or is_fatal(error)):
            return
        log.warning("a producer is replaced after %s: %s", type(error).__name__, error)
        count(semconv.PRODUCERS_REPLACED, 1, {semconv.ERROR_TYPE: type(error).__name__})
        loop = asyncio.get_running_loop()
        lasted = loop.time() - self._opened_at > STABLE_AFTER
        self._backoff = 0.0 if lasted else min(max(RETRY_BACKOFF, 2 * self._backoff), MAX_RETRY_BACKOFF)
        self.problem = f"it is replaced after {type(error).__name__}"
        self._current = None
        self._opening = asyncio.create_task(self._open())
        task = asyncio.create_task(close(producer, within=DRAIN_TIMEOUT))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Send pending records, and disconnect; if cancelled, disconnect at once."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for task in self._closing:
            task.cancel()  # no caller waits for their records any more
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._current is not None:
            current, self._current = self._current, None
            await close(current, within=DRAIN_TIMEOUT)

    async def _open(self) -> AIOKafkaProducer:
        await asyncio.sleep(self._backoff)
        pause = RETRY_BACKOFF
        while True:
            producer = self._create()
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    await shielded_start(producer.start())
            except (KafkaError, TimeoutError) as error:
                await close(producer, within=ABORT_TIMEOUT)
                problem = error_message(error, "no broker answers")
                if problem != self.problem:
                    log.warning("no producer can be opened, trying again: %s", problem)
                self.problem = problem
            except BaseException:
                await close(producer, within=ABORT_TIMEOUT)
                raise
            else:
                self.problem, self._opening, self._current = None, None, producer
                self._opened_at = asyncio.get_running_loop().time()
                return producer
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RETRY_BACKOFF)


def is_fatal(error: BaseException) -> bool:
    """Return whether an error means that the producer's sender has ended, for which aiokafka has no error type."""
    return type(error) is KafkaError
