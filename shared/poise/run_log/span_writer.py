"""The span log: finished spans on their way to `poise.spans`, in the background, a few times a second."""

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
"""Seconds after which spans count as lost: nobody waits for them, and more come."""
HEADERS: Final = [(CONTENT_TYPE, b"application/json")]


class SpanWriter:
    """Writes what a queue collects; `async with`, and at its end what is left.

    Args:
        producer: Sends the spans.
        queue: Where they are collected; None = nobody wants them.
        liveness: Of which this is a part.
    """

    def __init__(self, producer: Producer, queue: SpanQueue | None, liveness: Liveness) -> None:
        self._producer = producer
        self._queue = queue
        self._liveness = liveness
        self._part: Component | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._part = self._liveness.component("writer of spans", stalls_after=3 * SEND_TIMEOUT)
        self._writing = self._part.run(self._write_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is left."""
        if self._part is not None:
            self._part.close()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        await self._write()

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._progress()
            await self._write()

    def _progress(self) -> None:
        if self._part is not None:
            self._part.progress()

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
