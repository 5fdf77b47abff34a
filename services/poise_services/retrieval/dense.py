"""Meaning: a query's vector, if it is to be had in time; without one, passages are found by their words alone."""

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
    """Has queries embedded, and says once when that stops or begins again.

    Args:
        embedder: What makes vectors.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._up = True

    async def embed(self, query: str, within: float) -> "tuple[Vector | None, str | None]":
        """The vector of a query, or why there is none.

        Args:
            query: The query.
            within: Seconds in which it must come.
        """
        try:
            with span(semconv.EMBED_QUERY):
                async with asyncio.timeout(None if math.isinf(within) else within):
                    vector = await self._embedder.embed_query(query)
        except EmbedderError as error:
            return None, self._say(str(error), error.__cause__)
        except TimeoutError:
            return None, self._say(f"the query was not embedded within {within:.2g} s")
        self._say(None)
        return vector, None

    def _say(self, trouble: str | None, why: BaseException | None = None) -> str | None:
        """Pass on what is wrong, for the reader of the answer; why it is, with its paths and parts, is for the log."""
        if trouble is not None and self._up:
            log.warning("passages are found by words alone: %s%s", trouble, "" if why is None else f": {why}")
        elif trouble is None and not self._up:
            log.info("passages are found by meaning and words again")
        self._up = trouble is None
        return trouble
