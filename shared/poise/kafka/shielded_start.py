"""Start a Kafka client shielded from cancellation: if cancelled while it connects, aiokafka leaks the connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

FINISH_TIMEOUT: Final = 2.0
"""Seconds for the start to finish after a cancellation."""


async def shielded_start(starting: Coroutine[Any, Any, None]) -> None:
    """Await a client's start; a cancellation is raised only after the start has finished, or after `FINISH_TIMEOUT`.

    a client starts → a rebalance cancels the work that needs it → the cancellation arrives during a handshake, when the
    client has not stored the connection yet → closing the client does not close the connection
    """
    task = asyncio.create_task(starting)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=FINISH_TIMEOUT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
