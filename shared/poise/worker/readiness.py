"""Readiness: the conditions under which a process accepts work, among them that the broker answers."""

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
"""Seconds between two probes of the broker."""
MISSING_TOPICS_TIMEOUT: Final = 5.0
"""Seconds for which missing topics are looked up again: a broker that has just started does not know all topics yet."""
MISSING_TOPICS_INTERVAL: Final = 0.5
PROBES_PER_REACHABILITY_CHECK: Final = 30
"""Probes between two attempts to connect to each broker at its advertised address."""


class Readiness:
    """The conditions of one process; `async with`, to check the broker and its topics, and then to probe them.

    Args:
        admin: Queries the broker.
        liveness: The components of the process, each a condition; it receives whether the broker answers.
        identities: Receives the ids of the topics.

    Raises:
        SetupError: Topics are missing.
    """

    def __init__(self, admin: KafkaAdmin, liveness: Liveness, identities: TopicIdentities) -> None:
        self._admin = admin
        self._liveness = liveness
        self._identities = identities
        self._component: Component | None = None
        self._conditions: dict[str, Callable[[], bool]] = {}
        self._answers = False
        self._unreachable: set[str] = set()
        self._probing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Check that the topics exist, then start to probe."""
        until = self._liveness.now() + MISSING_TOPICS_TIMEOUT
        while missing := sorted(CATALOGUE.keys() - (await self._query())):
            if self._liveness.now() >= until:
                raise SetupError(f"topics are missing ({', '.join(missing)}): create them with `poise topics apply`")
            await asyncio.sleep(MISSING_TOPICS_INTERVAL)
        self._component = self._liveness.component("probe of the broker")
        self._probing = self._component.run(self._probe(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop probing."""
        if self._component is not None:
            self._component.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    @property
    def broker_answers(self) -> bool:
        """Whether the broker answered the last probe."""
        return self._answers

    def add(self, name: str, check: Callable[[], bool]) -> None:
        """Add a condition."""
        self._conditions[name] = check

    def status(self) -> dict[str, bool]:
        """Return the conditions, and whether each is met."""
        return {name: check() for name, check in self._conditions.items()} | self._liveness.conditions()

    async def _query(self) -> Collection[str]:
        """Query the broker for the topics and update their identities; return those that exist."""
        topics = await self._admin.describe(CATALOGUE.keys() | self._identities.topics)
        self._answers = True
        self._liveness.record_broker(answering=True)
        self._identities.update(topics)
        return topics.keys()

    async def _log_unreachable(self) -> None:
        """Log each broker that is unreachable at its advertised address, once until it is reachable."""
        unreachable = set(await self._admin.unreachable_brokers())
        for why in sorted(unreachable - self._unreachable):
            log.warning("%s", why)
        self._unreachable = unreachable

    async def _probe(self, component: Component) -> None:
        for number in itertools.count():
            if number % PROBES_PER_REACHABILITY_CHECK == 0:
                await self._log_unreachable()
            await asyncio.sleep(PROBE_INTERVAL)
            try:
                await self._query()
                component.progress()
            except UnavailableError as error:
                if self._answers:
                    log.warning("%s", error)
                self._answers = False
                self._liveness.record_broker(answering=False)
                component.report_blocked(str(error))
