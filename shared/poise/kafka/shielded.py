"""Start and stop a Kafka client shielded from cancellation: aiokafka leaks a connection, or loses the cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

FINISH_TIMEOUT: Final = 2.0
"""Seconds for a start or a stop to finish after a cancellation."""


async def shielded_start(starting: Coroutine[Any, Any, None]) -> None:
    """Await a client's start; a cancellation is raised only after the start has finished, or after `FINISH_TIMEOUT`.

    a client starts → a rebalance cancels the work that needs it → the cancellation arrives during a handshake, when the
    client has not stored the connection yet → closing the client does not close the connection
    """
    await _finish(asyncio.create_task(starting))


async def shielded_stop(stopping: Coroutine[Any, Any, None]) -> None:
    """Await a client's stop; a cancellation is raised only after the stop has finished, or after `FINISH_TIMEOUT`.

    a client stops → it cancels its own tasks, and awaits each with `suppress(CancelledError)` → the cancellation of the
    caller arrives during such an await → it is suppressed too, and the caller continues as if it had not been cancelled
    """
    task = asyncio.create_task(stopping)
    try:
        await _finish(task)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if not task.cancelled() or (caller is not None and caller.cancelling()):
            raise
        # else it is one of aiokafka's own, which it leaks when the broker is gone


async def _finish(task: asyncio.Task[None]) -> None:
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=FINISH_TIMEOUT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
