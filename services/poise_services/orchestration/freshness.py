"""Freshness: reads the documents' versions, and applies the cache's limits to an answer's staleness."""

import time

from poise.redis.answer_store import CachedAnswer
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.staleness import UNKNOWN, Staleness, staleness_of


class Freshness:
    """Assesses stored answers by the documents' current versions.

    Args:
        versions: The documents' versions.
        settings: The cache's limits and the ladder.
    """

    def __init__(self, versions: DocumentVersions, settings: OrchestrationSettings) -> None:
        self._versions = versions
        self._limits = settings.cache
        self._stale_rung = "stale" in settings.ladder.rungs

    async def assess(self, cached: CachedAnswer, remaining: float) -> Staleness:
        """Return how stale an answer is, given the seconds until the deadline."""
        if not await self._versions.sync(remaining):
            return Staleness(UNKNOWN, time.time())
        versions = self._versions
        return staleness_of(cached, versions.state_of, versions.topic_id, max_age=self._limits.max_age, now=time.time())

    def servable_while_revalidating(self, staleness: Staleness) -> bool:
        """Return whether a stale answer may be sent while it is refreshed."""
        return self._stale_rung and staleness.may_send_stale(self._limits.stale_while_revalidate, time.time())

    def servable_if_error(self, staleness: Staleness) -> bool:
        """Return whether a stale answer may be sent when no model answers."""
        return self._stale_rung and staleness.may_send_stale(self._limits.stale_if_error, time.time())
