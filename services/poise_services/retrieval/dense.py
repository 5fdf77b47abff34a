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
    """Embeds queries; logs when that starts to fail, and when it works again.

    Args:
        embedder: The embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._available = True

    async def embed(self, query: str, max_wait: float) -> "tuple[Vector | None, str | None]":
        """Return the vector of a query, or the reason why there is none.

        Args:
            query: The query.
            max_wait: Seconds.
        """
        try:
            with span(semconv.EMBED_QUERY):
                async with asyncio.timeout(None if math.isinf(max_wait) else max_wait):
                    vector = await self._embedder.embed_query(query)
        except EmbedderError as error:
            return None, self._report(str(error), error.__cause__)
        except TimeoutError:
            return None, self._report(f"the query was not embedded within {max_wait:.2g} s")
        self._report(None)
        return vector, None

    def _report(self, error: str | None, cause: BaseException | None = None) -> str | None:
        """Return the reason for the caller; log its cause, which may contain paths."""
        if error is not None and self._available:
            log.warning("search is sparse only: %s%s", error, "" if cause is None else f": {cause}")
        elif error is None and not self._available:
            log.info("search is hybrid again")
        self._available = error is None
        return error
