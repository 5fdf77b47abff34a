"""Answer storage: which answers are stored in the cache, and on which documents they depend."""

import time
from collections.abc import Sequence
from typing import Final

from poise.contracts import Answer, Passage
from poise.redis.answer_store import AnswerStore, CachedAnswer, Dependency
from poise_services.orchestration.cache_keys import document_id
from poise_services.orchestration.cache_lookup import CacheRequest
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.integrations import PASSAGE_ID_PREFIX
from poise_services.orchestration.settings import OrchestrationSettings

MODEL_RUNGS: Final = frozenset({"primary", "variant"})
"""The rungs whose answers a model wrote."""


class AnswerStorage:
    """Stores answers.

    Args:
        store: The stored answers.
        versions: The documents' versions.
        settings: The tier's settings.
    """

    def __init__(self, store: AnswerStore, versions: DocumentVersions, settings: OrchestrationSettings) -> None:
        self._store = store
        self._versions = versions
        self._settings = settings

    async def store(self, request: CacheRequest, answer: Answer, computation_started_at: float) -> CachedAnswer:
        """Store an answer if it may be stored; return it for the asks that wait for it.

        Args:
            request: The ask.
            answer: Its answer.
            computation_started_at: Unix seconds.
        """
        run = request.run
        now = time.time()
        dependencies = await self._dependencies(run.annotations.passages, run.remaining())
        duration = now - computation_started_at
        entry = CachedAnswer(
            answer=answer,
            computation_started_at=computation_started_at,
            computed_at=now,
            dependencies=dependencies,
            duration_ms=duration * 1_000,
            time_available=duration + run.remaining(),
        )
        author = next((variant for variant in self._settings.variants if variant.name == answer.variant), None)
        # Changes of an integration's replies cannot be detected, so answers that depend on one are not stored.
        if author is None or self._settings.integrations or not _storable(entry):
            return entry
        key = CacheRequest.of(run, request.ask, request.draw, author, self._settings).key
        # A later ask that finds this answer has a draw of its own, so the rung here does not apply to it.
        as_primary = answer.model_copy(update={"rung": "primary", "reason": None})
        limits = self._settings.cache
        ttl = limits.max_age + max(limits.stale_while_revalidate, limits.stale_if_error)
        await self._store.put(run.tenant, key, entry.model_copy(update={"answer": as_primary}), ttl)
        return entry

    async def _dependencies(self, passages: Sequence[Passage], remaining: float) -> tuple[Dependency, ...]:
        """Return the documents of all retrieved passages, with the digests of the retrieved versions.

        Integrations' replies are omitted: answers that depend on one are shared by concurrent asks, but not stored.
        """
        synced = await self._versions.sync(remaining)
        dependencies: dict[str, Dependency] = {}
        for passage in passages:
            if passage.version is None and passage.id.startswith(PASSAGE_ID_PREFIX):
                continue
            document = document_id(passage.id)
            digest = self._digest(document, passage.version) if synced else None
            if document not in dependencies or digest is None:
                dependencies[document] = Dependency(document=document, source=passage.source, digest=digest)
        return tuple(dependencies.values())

    def _digest(self, document: str, version: int | None) -> str | None:
        state = self._versions.state_of(document)
        if state is None or version is None or not state.same_content(version):
            return None
        return state.digest


def _storable(entry: CachedAnswer) -> bool:
    """Return whether an answer passed its check, and the content of each document that it depends on is known."""
    answer = entry.answer
    return (
        answer.rung in MODEL_RUNGS
        and answer.retrieval in {"hybrid", "lexical"}
        and answer.epoch is not None
        and not answer.cached
        and bool(entry.dependencies)
        and all(dependency.digest is not None for dependency in entry.dependencies)
    )
