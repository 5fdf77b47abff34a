"""Opening a client of Kafka undisturbed: cancelled while it connects, aiokafka leaves that connection open."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

FINISH_TIMEOUT: Final = 2.0
"""Seconds that the opening is given to finish by itself once nobody wants it any more."""


async def shielded_start(opening: Coroutine[Any, Any, None]) -> None:
    """Open; when this is cancelled, it raises that only once the opening has finished, or is given up.

    A client is opened → a rebalance cancels the work that it is for → cancelled in the middle of a handshake, the
    client has not noted the connection yet, and to close the client does not close it.
    """
    task = asyncio.create_task(opening)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=FINISH_TIMEOUT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
