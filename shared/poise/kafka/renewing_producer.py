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
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from poise.errors import UnavailableError
from poise.kafka.shielded_start import undisturbed
from poise.telemetry import count, semconv
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

OPENED_WITHIN: Final = 10.0
"""Seconds for connecting and getting an id; then it is tried again, with whatever brokers there are by then."""
AGAIN_AFTER: Final = 0.1
"""Seconds between two attempts, or two renewals in a row; twice as long each time."""
AGAIN_AFTER_MOST: Final = 2.0
LASTED: Final = 10.0
"""Seconds after which a renewal is not one in a row any more."""
DRAINED_WITHIN: Final = 60.0
"""Seconds that a replaced producer is given to end what it has under way: longer than any caller waits."""
ABANDONED_WITHIN: Final = 2.0


class RenewingProducer:
    """One open AIOKafkaProducer at a time; each renewal makes another.

    Args:
        make: Makes a producer, not yet started.
        idempotent: Whether it numbers its records, so that any batch that fails leaves a gap.
    """

    def __init__(self, make: Callable[[], AIOKafkaProducer], *, idempotent: bool) -> None:
        self.problem: str | None = None
        """Why there is none now, in words; None = there is one, or it is being opened for the first time."""
        self._make = make
        self._idempotent = idempotent
        self._current: AIOKafkaProducer | None = None
        self._opening: asyncio.Task[AIOKafkaProducer] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._opened_at = 0.0
        self._pause = 0.0
        self._closed = False

    @property
    def current(self) -> AIOKafkaProducer | None:
        """The producer to send with; None = `opened` has to wait for one."""
        return self._current

    async def opened(self) -> AIOKafkaProducer:
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

    def failed(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Told of an error of a batch, or of the producer itself; renews it where it cannot be used any more.

        Of many that fail together the first renews: to the others the producer is not the current one any more.
        """
        if self._closed or producer is not self._current or not (self._idempotent or is_fatal(error)):
            return
        log.warning("a producer is renewed after %s: %s", type(error).__name__, error)
        count(semconv.PRODUCERS_RENEWED, 1, {semconv.ERROR_TYPE: type(error).__name__})
        loop = asyncio.get_running_loop()
        lasted = loop.time() - self._opened_at > LASTED
        self._pause = 0.0 if lasted else min(max(AGAIN_AFTER, 2 * self._pause), AGAIN_AFTER_MOST)
        self.problem = f"it is renewed after {type(error).__name__}"
        self._current = None
        self._opening = asyncio.create_task(self._open())
        task = asyncio.create_task(close(producer, within=DRAINED_WITHIN))
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
            await close(current, within=DRAINED_WITHIN)

    async def _open(self) -> AIOKafkaProducer:
        await asyncio.sleep(self._pause)
        pause = AGAIN_AFTER
        while True:
            producer = self._make()
            try:
                async with asyncio.timeout(OPENED_WITHIN):
                    await undisturbed(producer.start())
            except (KafkaError, TimeoutError) as error:
                await close(producer, within=ABANDONED_WITHIN)
                told = words_of(error, "no broker answers")
                if told != self.problem:
                    log.warning("no producer can be opened, trying again: %s", told)
                self.problem = told
            except BaseException:
                await close(producer, within=ABANDONED_WITHIN)
                raise
            else:
                self.problem, self._opening, self._current = None, None, producer
                self._opened_at = asyncio.get_running_loop().time()
                return producer
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_AFTER_MOST)


def is_fatal(error: BaseException) -> bool:
    """Whether an error of a batch is that of a producer whose sender has ended: it says so by no kind of its own."""
    return type(error) is KafkaError


async def close(producer: AIOKafkaProducer, *, within: float) -> None:
    """Close a producer once what it has under way is over; after `within` seconds, or when cancelled, at once."""
    stopping = asyncio.ensure_future(producer.stop())
    try:
        await asyncio.wait({stopping}, timeout=within)
    finally:
        if not stopping.done():
            await _abandon(producer, stopping)
        if not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.debug("a producer was closed with %r", error)


async def _abandon(producer: AIOKafkaProducer, stopping: asyncio.Future[None]) -> None:
    """End a producer whose broker does not answer: aiokafka's own way waits for its last batch, however long.

    The sender ends first, so that it takes up no batch again; then whoever waits for a batch is told.
    """
    sender, queue = producer._sender.sender_task, producer._message_accumulator  # noqa: SLF001 - have no public way
    if sender is not None:
        sender.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ABANDONED_WITHIN):
            await producer.client.close()
    if sender is not None:
        await asyncio.wait({sender}, timeout=ABANDONED_WITHIN)
    for batches in queue._batches.values():  # noqa: SLF001
        for batch in batches:
            batch.drain_ready()  # else the error would also be kept where nobody asks for it
            queue._pending_batches.add(batch)  # noqa: SLF001 - that it takes itself out of, once it is over
    queue.fail_all(ProducerClosed())
    await asyncio.wait({stopping}, timeout=ABANDONED_WITHIN)
    stopping.cancel()
