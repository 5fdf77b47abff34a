"""Revalidation: refreshes a stale answer by a run on the batch lane."""

import time
from typing import Final
from uuid import NAMESPACE_OID, uuid4, uuid5

from poise.contracts import Ask, Envelope
from poise.contracts.run_id import ROOT_STEP
from poise.contracts.topics import RUNS_BATCH
from poise.redis.answer_store import CachedAnswer, single_flight_key
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore
from poise.worker.context import MessagePublisher
from poise_services.orchestration.document_versions import DocumentVersions

REVALIDATION_INTERVAL: Final = 30.0
"""Seconds until an answer that is still stale is refreshed again."""


class Revalidator:
    """Publishes asks that refresh stale answers.

    Args:
        producer: Publishes the asks.
        leases: Stores the leases that prevent duplicates.
        versions: The documents' versions.
    """

    def __init__(self, producer: MessagePublisher, leases: LeaseStore, versions: DocumentVersions) -> None:
        self._producer = producer
        self._leases = leases
        self._versions = versions

    async def start(self, tenant: str, ask: Ask, key: str, cached: CachedAnswer) -> None:
        """Refresh a stale answer by one run, however many asks find it stale.

        The first of them acquires a lease in Redis, which expires after `REVALIDATION_INTERVAL`. If Redis loses it and
        a second one acquires it, both publish the same run id, and the orchestration tier handles that run once. If it
        handles both, they share a single flight.
        """
        lease = Lease(f"{single_flight_key(tenant, key)}:again", uuid4().hex)
        if await self._leases.acquire(lease, REVALIDATION_INTERVAL) is LeaseStatus.HELD_ELSEWHERE:
            return
        run = self._run_id(key, cached)
        await self._producer.publish(
            RUNS_BATCH,
            Ask(question=ask.question, workflow=ask.workflow, cache="no-cache"),
            key=run,
            envelope=Envelope(run=run, step=ROOT_STEP, tenant=tenant),
        )

    def _run_id(self, key: str, cached: CachedAnswer) -> str:
        states = (self._versions.state_of(dependency.document) for dependency in cached.dependencies)
        versions = (-1 if state is None else state.version for state in states)
        interval = int(time.time() / REVALIDATION_INTERVAL)
        return str(uuid5(NAMESPACE_OID, "/".join(map(str, (key, cached.computed_at, *versions, interval)))))
