"""Searching: a query finds the passages that bear on it."""

import asyncio
import time
from typing import Literal

from poise.contracts import Epoch, FieldError, Passage, Passages, Retrieve
from poise.errors import DeadlineExceededError, InvalidMessageError
from poise.messaging import Context, parked
from poise.telemetry import measure, span, table
from services.retrieval.corpus import Corpus
from services.retrieval.embedding import Embedder
from services.retrieval.index import Found
from services.retrieval.meaning import Meaning
from services.retrieval.passages import part_key
from services.retrieval.settings import RetrievalSettings

Mode = Literal["hybrid", "lexical", "none"]

_HEADER = "poise-min-epoch"


class Searcher:
    """Handles `Retrieve`."""

    def __init__(self, settings: RetrievalSettings, embedder: Embedder, corpus: Corpus) -> None:
        self._settings = settings
        self._meaning = Meaning(embedder)
        self._corpus = corpus

    async def search(self, request: Retrieve, context: Context) -> Passages:
        """Find passages, in an index that has come to the request's epoch; without a vector, by words alone.

        Raises:
            InvalidMessageError: The epoch is none, or of a `poise.documents` that is no more.
            DeadlineExceededError: The index did not come to it in time.
        """
        if context.envelope.min_epoch is not None:
            await self._wait_for(_epoch(context.envelope.min_epoch), context)
        vector, trouble = await self._meaning.of(request.query, context.remaining() * self._settings.embed_share)
        started = time.perf_counter()
        with span(table.SEARCH) as current:
            epoch = self._corpus.epoch
            found = await self._corpus.search(request.query, vector, request.limit)
            current.set_attribute(table.PASSAGES, len(found))
        mode: Mode = "none" if not found else "hybrid" if trouble is None else "lexical"
        measure(table.SEARCH_DURATION, time.perf_counter() - started, {table.MODE: mode})
        now = time.time()
        passages = tuple(_passage(one, now) for one in found)
        reason = None if trouble is None else f"by words alone: {trouble}"
        return Passages(passages=passages, epoch=epoch.encode(), mode=mode, reason=reason)

    async def _wait_for(self, epoch: Epoch, context: Context) -> None:
        """Wait, bounded by the request's deadline: a document that became a dead letter is never reached."""
        corpus = self._corpus
        if corpus.epoch.reached(epoch):
            return
        if corpus.epoch.topic_id != epoch.topic_id:
            raise _refused("is of a poise.documents that is no more: ask without it")
        try:
            with span(table.WAIT_EPOCH):
                async with asyncio.timeout(max(0.0, context.remaining() - self._settings.reply_margin)), parked():
                    await corpus.until_reached(epoch)
        except TimeoutError as error:
            missing = ", ".join(
                f"partition {partition} is at {corpus.epoch.parts.get(partition, ('none', 0))[0]}, "
                f"not at {epoch.parts[partition][0]}"
                for partition in corpus.epoch.missing(epoch)
            )
            raise DeadlineExceededError(
                f"the index has not come to {_HEADER} in time ({missing}): it may still be on its way, or the document "
                "could not be handled and is a dead letter (`poise dlq ls`)"
            ) from error


def _epoch(text: str) -> Epoch:
    try:
        return Epoch.decode(text)
    except ValueError as error:
        raise _refused(str(error)) from error


def _refused(detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{_HEADER}: {detail}", [FieldError(field=_HEADER, detail=detail)])


def _passage(found: Found, now: float) -> Passage:
    return Passage(
        id=part_key(found.document, found.part),
        source=found.source,
        heading=found.heading,
        text=found.text,
        score=found.score,
        age=max(0.0, now - found.published),
        version=found.version,
    )
