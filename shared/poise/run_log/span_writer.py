"""The span writer: a background task that writes finished spans to `poise.spans`, several times a second."""

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from poise.contracts.headers import CONTENT_TYPE
from poise.contracts.topics import SPANS
from poise.kafka.producer import Producer
from poise.liveness import Component, Liveness
from poise.telemetry import count, semconv
from poise.telemetry.spans import SpanQueue

log = logging.getLogger(__name__)

INTERVAL: Final = 0.2
"""Seconds between two writes."""
SEND_TIMEOUT: Final = 10.0
"""Seconds after which spans are dropped: no caller waits for them, and new ones arrive."""
HEADERS: Final = [(CONTENT_TYPE, b"application/json")]


class SpanWriter:
    """Writes the spans of a queue, as an async context manager; on exit, it writes the remaining spans.

    Args:
        producer: Sends the spans.
        queue: The queue of finished spans; None = spans are disabled.
        liveness: The liveness check of the process, which the writer becomes a component of.
    """

    def __init__(self, producer: Producer, queue: SpanQueue | None, liveness: Liveness) -> None:
        self._producer = producer
        self._queue = queue
        self._liveness = liveness
        self._component: Component | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the background task."""
        self._component = self._liveness.component("writer of spans", stalls_after=3 * SEND_TIMEOUT)
        self._task = self._component.run(self._write_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background task, and write the remaining spans."""
        if self._component is not None:
            self._component.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._write()

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._progress()
            await self._write()

    def _progress(self) -> None:
        if self._component is not None:
            self._component.progress()

    async def _write(self) -> None:
        while self._queue is not None and (finished := self._queue.drain()):
            records = [(run.encode(errors="replace"), body) for run, body in finished]
            lost: list[BaseException]
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    lost = await self._producer.send_all(SPANS.name, records, HEADERS)
            except TimeoutError as error:
                lost = [error] * len(records)
            self._progress()
            if lost:
                count(semconv.SPANS_DROPPED, len(lost))
                log.warning("%d spans were lost: %r", len(lost), lost[0])
