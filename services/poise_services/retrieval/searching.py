"""Handles `Retrieve`: finds the passages that are relevant to a query."""

import asyncio
import time
from typing import Literal

from poise.contracts import Epoch, Passage, Passages, Retrieve
from poise.contracts.headers import MIN_EPOCH
from poise.contracts.topics import DOCUMENTS
from poise.errors import DeadlineExceededError, RetryableError
from poise.ingestion.epoch_validator import parse_epoch
from poise.kafka.handling_slots import parked
from poise.telemetry import measure, semconv, span
from poise.worker.context import Context
from poise_services.retrieval.dense import QueryEmbedder
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.index import SearchHit
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.passages import passage_record_key
from poise_services.retrieval.reply_size import fit_to_size
from poise_services.retrieval.settings import RetrievalSettings

SearchMode = Literal["hybrid", "lexical", "none"]
"""Dense and sparse search, sparse search only (`lexical` on the wire), or no passages found."""


class TooManyEpochWaitsError(RetryableError):
    """Too many requests wait for their epochs."""

    dead_letter = False


class Searcher:
    """Handles `Retrieve`."""

    def __init__(self, settings: RetrievalSettings, embedder: Embedder, live_index: LiveIndex) -> None:
        self._settings = settings
        self._query_embedder = QueryEmbedder(embedder)
        self._live_index = live_index
        self._epoch_waiters = 0

    async def search(self, request: Retrieve, context: Context) -> Passages:
        """Find the passages most relevant to a query, once the index has reached the requested epoch.

        Raises:
            InvalidMessageError: The epoch is malformed, or the index can never reach it.
            TooManyEpochWaitsError: Too many requests wait for their epochs.
            DeadlineExceededError: The index did not reach it in time.
        """
        if context.envelope.min_epoch is not None:
            epoch = parse_epoch(context.envelope.min_epoch)
            if not self._live_index.epoch.reached(epoch):
                async with parked():
                    await self._live_index.check_epoch(epoch)
                await self._wait_for_epoch(epoch, context)
        vector, embedding_error = await self._query_embedder.embed(
            request.query, context.remaining() * self._settings.embedding_budget
        )
        started = time.perf_counter()
        with span(semconv.SEARCH) as current:
            epoch = self._live_index.epoch
            hits = await self._live_index.search(request.query, vector, request.limit)
            current.set_attribute(semconv.PASSAGES, len(hits))
        mode: SearchMode = "none"
        if hits:
            mode = "hybrid" if embedding_error is None else "lexical"
        measure(semconv.SEARCH_DURATION, time.perf_counter() - started, {semconv.MODE: mode})
        now = time.time()
        passages = tuple(_passage(hit, now) for hit in hits)
        reason = None if embedding_error is None else f"sparse search only: {embedding_error}"
        reply = Passages(passages=passages, epoch=epoch.encode(), mode=mode, reason=reason)
        return fit_to_size(reply, await context.max_body_bytes())

    async def _wait_for_epoch(self, epoch: Epoch, context: Context) -> None:
        """Wait until just before the deadline.

        The epoch of a document that became a dead letter is reached with the next document of its partition.
        """
        if self._epoch_waiters >= self._settings.max_epoch_waiters:
            raise TooManyEpochWaitsError(
                f"{self._epoch_waiters} requests already wait for their epochs, which is the maximum"
            )
        self._epoch_waiters += 1
        try:
            with span(semconv.WAIT_EPOCH):
                async with asyncio.timeout(max(0.0, context.remaining() - self._settings.reply_margin)), parked():
                    await self._live_index.wait_for_epoch(epoch)
        except TimeoutError as error:
            missing = _describe_missing(self._live_index.epoch, epoch)
            raise DeadlineExceededError(
                f"the index did not reach {MIN_EPOCH} in time ({missing}): the document may still be in progress, or "
                "could not be handled and is a dead letter (`poise dlq ls`)"
            ) from error
        finally:
            self._epoch_waiters -= 1


def _describe_missing(current: Epoch, requested: Epoch) -> str:
    if current.topic_id != requested.topic_id:
        return f"its epoch belongs to another {DOCUMENTS.name}"
    return ", ".join(
        f"partition {partition} is at {current.partitions.get(partition, ('none', 0))[0]}, "
        f"not at {requested.partitions[partition][0]}"
        for partition in current.missing(requested)
    )


def _passage(hit: SearchHit, now: float) -> Passage:
    return Passage(
        id=passage_record_key(hit.document, hit.passage_number),
        source=hit.source,
        heading=hit.heading,
        text=hit.text,
        score=hit.score,
        age=max(0.0, now - hit.document_written_at),
        version=hit.version,
    )
