"""Starting and stopping a client: a cancellation waits until either has ended, and is never lost."""

import asyncio
import contextlib

import pytest

from poise.kafka.shielded import shielded_start, shielded_stop


async def test_a_cancellation_is_raised_after_the_start() -> None:
    connected = asyncio.Event()

    async def start() -> None:
        await asyncio.sleep(0)
        connected.set()

    task = asyncio.create_task(shielded_start(start()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connected.is_set()


async def test_a_cancellation_that_the_client_would_suppress_is_raised() -> None:
    """Stop as aiokafka does: it cancels its own task and suppresses cancellations until that task has ended."""
    background = asyncio.create_task(asyncio.Event().wait())
    closed = asyncio.Event()

    async def stop() -> None:
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        closed.set()

    task = asyncio.create_task(shielded_stop(stop()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_a_cancellation_that_the_client_leaks_is_not_raised() -> None:
    async def stop() -> None:
        raise asyncio.CancelledError

    await shielded_stop(stop())


async def test_an_error_of_the_stop_is_raised() -> None:
    async def stop() -> None:
        raise OSError("connection reset")

    with pytest.raises(OSError, match="connection reset"):
        await shielded_stop(stop())
