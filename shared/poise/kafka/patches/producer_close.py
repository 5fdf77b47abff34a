"""Close a producer within a time limit: aiokafka's `stop` waits for its last batch, for as long as that takes."""

import asyncio
import contextlib
import logging
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from poise.kafka.patches.versions import check_version

log = logging.getLogger(__name__)

ABORT_TIMEOUT: Final = 2.0
"""Seconds that each step of aborting a producer may take."""


async def close(producer: AIOKafkaProducer, *, within: float) -> None:
    """Close a producer when its pending batches are done; abort it after `within` seconds, or when cancelled."""
    check_version("aiokafka")
    stopping = asyncio.ensure_future(producer.stop())
    try:
        await asyncio.wait({stopping}, timeout=within)
    finally:
        if not stopping.done():
            await _abort(producer, stopping)
        if stopping.done() and not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.debug("a producer was closed with %r", error)


async def _abort(producer: AIOKafkaProducer, stopping: asyncio.Future[None]) -> None:
    """Abort a producer whose broker does not answer.

    The sender ends first, so that it does not take up a batch again. Then every pending batch fails.
    """
    sender, accumulator = producer._sender.sender_task, producer._message_accumulator  # noqa: SLF001 - not public
    if sender is not None:
        sender.cancel()
    with contextlib.suppress(TimeoutError):  # its connections end with the process
        async with asyncio.timeout(ABORT_TIMEOUT):
            await producer.client.close()
    if sender is not None:
        await asyncio.wait({sender}, timeout=ABORT_TIMEOUT)
    for batches in accumulator._batches.values():  # noqa: SLF001
        for batch in batches:
            batch.drain_ready()  # else the error is also stored in a future that is never read
            accumulator._pending_batches.add(batch)  # noqa: SLF001 - the batch removes itself when it is done
    accumulator.fail_all(ProducerClosed())
    await asyncio.wait({stopping}, timeout=ABORT_TIMEOUT)
    stopping.cancel()
