"""A Kafka producer that is replaced when it cannot be used any more.

aiokafka numbers the records of an idempotent producer by partition, when it takes a batch from its queue, and never
takes a number back. So a batch that ends in an error leaves a gap, and Kafka refuses all that comes behind a gap:

    the broker refuses a batch (too large, not allowed)  → the next ones get OutOfOrderSequenceNumber, for ever
    a partition has no leader, its batch expires unsent  → the same
    the broker has forgotten the producer                → UnknownProducerId, for ever
    aiokafka's sender ends on an error                   → every send raises that error, for ever

The cure is the same for all: a new producer, with an id of its own, whose numbers begin at 0. What the old one has
under way ends as it ends there; it is closed when that is over, or after a while.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from poise.errors import UnavailableError
from poise.kafka.patches.producer_close import ABORT_TIMEOUT, close
from poise.kafka.shielded_start import shielded_start
from poise.telemetry import count, semconv
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 10.0
"""Seconds for connecting and getting an id; then it is tried again, with whatever brokers there are by then."""
RETRY_BACKOFF: Final = 0.1
"""Seconds between two attempts, or two renewals in a row; twice as long each time."""
MAX_RETRY_BACKOFF: Final = 2.0
STABLE_AFTER: Final = 10.0
"""Seconds after which a renewal is not one in a row any more."""
DRAIN_TIMEOUT: Final = 60.0
"""Seconds that a replaced producer is given to end what it has under way: longer than any caller waits."""


class RenewingProducer:
    """One open AIOKafkaProducer at a time; each renewal makes another.

    Args:
        make: Makes a producer, not yet started.
        idempotent: Whether it numbers its records, so that any batch that fails leaves a gap.
    """

    def __init__(self, create: Callable[[], AIOKafkaProducer], *, idempotent: bool) -> None:
        self.problem: str | None = None
        """Why there is none now, in words; None = there is one, or it is being opened for the first time."""
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
        """The producer to send with; None = `ready` has to wait for one."""
        return self._current

    async def ready(self) -> AIOKafkaProducer:
        """The producer to send with, as soon as there is one; all who wait share one opening.

        Raises:
            UnavailableError: It is closed.
        """
        if self._closed:
            raise UnavailableError("nothing is sent any more: the process is disconnecting")
        if self._current is not None:
            return self._current
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    def report_failure(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Told of an error of a batch, or of the producer itself; renews it where it cannot be used any more.

        Of many that fail together the first renews: to the others the producer is not the current one any more.
        """
        if self._closed or producer is not self._current or not (self._idempotent or is_fatal(error)):
            return
        log.warning("a producer is renewed after %s: %s", type(error).__name__, error)
        count(semconv.PRODUCERS_RENEWED, 1, {semconv.ERROR_TYPE: type(error).__name__})
        loop = asyncio.get_running_loop()
        lasted = loop.time() - self._opened_at > STABLE_AFTER
        self._backoff = 0.0 if lasted else min(max(RETRY_BACKOFF, 2 * self._backoff), MAX_RETRY_BACKOFF)
        self.problem = f"it is renewed after {type(error).__name__}"
        self._current = None
        self._opening = asyncio.create_task(self._open())
        task = asyncio.create_task(close(producer, within=DRAIN_TIMEOUT))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Write what is under way, and disconnect; when this is cancelled, without."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for task in self._closing:
            task.cancel()  # nobody waits for what these have
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
                told = words_of(error, "no broker answers")
                if told != self.problem:
                    log.warning("no producer can be opened, trying again: %s", told)
                self.problem = told
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
    """Whether an error of a batch is that of a producer whose sender has ended: it says so by no kind of its own."""
    return type(error) is KafkaError
