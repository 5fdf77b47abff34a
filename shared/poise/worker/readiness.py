"""Readiness: what must be so before a process is given work, the broker's answering among it."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self

from poise.contracts.topics import CATALOGUE
from poise.errors import SetupError, UnavailableError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.topic_identities import TopicIdentities
from poise.liveness import Component, Liveness

log = logging.getLogger(__name__)

PROBE_INTERVAL: Final = 2.0
"""Seconds between two questions to the broker."""
PROBES_PER_REACHABILITY_CHECK: Final = 30
"""Questions after which each broker is tried under the address that it tells its clients."""


class Readiness:
    """The conditions of one process; `async with`, to see the broker and its topics now, and both from then on.

    Args:
        admin: Asks the broker.
        liveness: The parts of the process, each of which is a condition; told whether the broker answers.
        identities: Told what the broker says of the topics.

    Raises:
        SetupError: Topics are missing.
    """

    def __init__(self, admin: KafkaAdmin, liveness: Liveness, identities: TopicIdentities) -> None:
        self._admin = admin
        self._liveness = liveness
        self._identities = identities
        self._part: Component | None = None
        self._conditions: dict[str, Callable[[], bool]] = {}
        self._answers = False
        self._missed: set[str] = set()
        self._probing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """See that the topics are there, then begin to probe."""
        missing = sorted(CATALOGUE.keys() - (await self._ask()))
        if missing:
            raise SetupError(f"topics are missing ({', '.join(missing)}): create them with `poise topics apply`")
        self._part = self._liveness.component("probe of the broker")
        self._probing = self._part.run(self._probe(self._part))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Probe no more."""
        if self._part is not None:
            self._part.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    @property
    def broker_answers(self) -> bool:
        """Whether the broker answered when it was last asked."""
        return self._answers

    def when(self, name: str, check: Callable[[], bool]) -> None:
        """Add a condition."""
        self._conditions[name] = check

    def now(self) -> dict[str, bool]:
        """The conditions, and which are met."""
        return {name: check() for name, check in self._conditions.items()} | self._liveness.conditions()

    async def _ask(self) -> Collection[str]:
        """Ask the broker about the topics, and hand on what it says; returns those that exist."""
        found = await self._admin.describe(CATALOGUE.keys() | self._identities.topics)
        self._answers = True
        self._liveness.record_broker(answering=True)
        self._identities.update(found)
        return found.keys()

    async def _name_unreachable(self) -> None:
        """Say of each broker that cannot be reached where it tells its clients to come, once until it can."""
        missed = set(await self._admin.unreachable_brokers())
        for why in sorted(missed - self._missed):
            log.warning("%s", why)
        self._missed = missed

    async def _probe(self, part: Component) -> None:
        for number in itertools.count():
            if number % PROBES_PER_REACHABILITY_CHECK == 0:
                await self._name_unreachable()
            await asyncio.sleep(PROBE_INTERVAL)
            try:
                await self._ask()
                part.progress()
            except UnavailableError as error:
                if self._answers:
                    log.warning("%s", error)
                self._answers = False
                self._liveness.record_broker(answering=False)
                part.blocked(str(error))
