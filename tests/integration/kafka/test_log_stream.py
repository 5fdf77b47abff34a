"""A log stream on a real Kafka: a cancellation that arrives while it is closed is not lost."""

import asyncio
from uuid import uuid4

import pytest
from integration_kit import settings_for_another_process

from poise.contracts.topics import Topic
from poise.kafka import log_stream
from poise.kafka.log_stream import LogStream
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

MAX_TICKS = 200
"""Iterations of the event loop that closing a stream takes at most."""


async def test_a_cancellation_while_a_stream_is_closed_is_raised(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel at each moment of closing: aiokafka suppresses a cancellation while it waits for its own tasks."""
    monkeypatch.setattr(log_stream, "POLL_TIMEOUT_MS", 10)
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        topic = Topic(f"log-{uuid4().hex[:8]}", (), partitions=1, retention=3_600.0)
        await mesh.admin.create([topic])
        for ticks in range(MAX_TICKS):
            closing = asyncio.Event()
            task = asyncio.create_task(_open_and_close(mesh, topic.name, closing))
            await closing.wait()
            for _ in range(ticks):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            pytest.fail("closing a stream took longer than expected")
        assert ticks > 1, "at least one cancellation arrived while the stream was closing"


async def _open_and_close(mesh: WorkerRuntime, topic: str, closing: asyncio.Event) -> None:
    async with LogStream(mesh.logs.access.connection, topic, start="end") as stream:
        await anext(stream.polls())  # so that fetches are under way
        closing.set()
