"""Embeds queries for dense retrieval, within a time limit; without a vector, search is sparse only."""

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from poise.telemetry import semconv, span
from poise_services.retrieval.embedding import Embedder, EmbedderError

if TYPE_CHECKING:
    from poise.embedding import Vector

log = logging.getLogger(__name__)


class QueryEmbedder:
    """Embeds queries, and logs when that starts to fail or works again.

    Args:
        embedder: The embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._up = True

    async def embed(self, query: str, within: float) -> "tuple[Vector | None, str | None]":
        """Return the vector of a query, or the reason why there is none.

        Args:
            query: The query.
            within: The time limit, seconds.
        """
        try:
            with span(semconv.EMBED_QUERY):
                async with asyncio.timeout(None if math.isinf(within) else within):
                    vector = await self._embedder.embed_query(query)
        except EmbedderError as error:
            return None, self._report(str(error), error.__cause__)
        except TimeoutError:
            return None, self._report(f"the query was not embedded within {within:.2g} s")
        self._report(None)
        return vector, None

    def _report(self, error: str | None, cause: BaseException | None = None) -> str | None:
        """Return the reason for the caller; log its cause, which may contain paths."""
        if error is not None and self._up:
            log.warning("search is sparse only: %s%s", error, "" if cause is None else f": {cause}")
        elif error is None and not self._up:
            log.info("search is hybrid again")
        self._up = error is None
        return error
