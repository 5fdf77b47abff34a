"""Dead letter administration: list, show, redrive and purge, for the command line and the gateway."""

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from poise.contracts.headers import DEAD_PURGED
from poise.contracts.topics import PREFIX, dead_letter_topic_name
from poise.dead_letters.filter import DeadLetterFilter, invalid_field
from poise.dead_letters.model import DeadLetter, DeadLetterIndex, DeadLetterState, marker
from poise.dead_letters.redrive import RedriveExecutor, load_messages
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome, first_needed_offsets
from poise.errors import RetryableError
from poise.kafka.logs import Logs
from poise.kafka.record import Position
from poise.kafka.transactions import ProducerFencedError, ProducerRecord, TransactionalProducer

READ_TIMEOUT: Final = 120.0
"""Seconds to read all dead letters of a tier."""
MARKERS_PER_TRANSACTION: Final = 1_000
_SUFFIX: Final = dead_letter_topic_name("").removeprefix(PREFIX)


@dataclass(frozen=True, slots=True)
class _TopicSnapshot:
    """The dead letters of a tier when its topic was read."""

    entries: list[DeadLetter]
    """The matching dead letters."""
    positions: AbstractSet[Position]
    """The positions of all dead letters, whether they match or not."""
    ends: Mapping[int, int]


class DeadLetterAdmin:
    """The dead letters of all tiers.

    A redrive is transactional: the resent message and its marker are committed together or not at all. All
    transactions of a dead-letter topic have one transactional id, for which Kafka permits one writer at a time. So:

    - if a process dies between the two, neither is committed: readers of committed records see no resent message
    - if two redrives run at the same time, the later one fences the earlier one, whose open transaction is aborted; the
      later one then reads all markers and redrives the rest, and the earlier one raises an error
    - an interrupted redrive is continued by running it again

    The cost: workers wait for the end of an open transaction, some ten milliseconds. If the process was killed inside
    one and is not run again, they wait for `transactions.TRANSACTION_TIMEOUT`, and up to ten seconds more until the
    broker checks for expired transactions.
    """

    def __init__(self, logs: Logs, tenant: str) -> None:
        self._logs = logs
        self._admin = logs.access.admin
        self._tenant = tenant

    async def tiers(self) -> list[str]:
        """Return the tiers, built-in and custom, that have a dead-letter topic on the broker."""
        return sorted(
            name.removeprefix(PREFIX).removesuffix(_SUFFIX)
            for name in await self._admin.list_topics()
            if name.startswith(PREFIX) and name.endswith(_SUFFIX)
        )

    async def select(self, filter_: DeadLetterFilter) -> list[DeadLetter]:
        """Return the matching dead letters, oldest first, without their messages, which `load_messages` reads.

        Raises:
            InvalidMessageError: A tier or an id is unknown, or too many dead letters match.
            UnavailableError: They cannot be read.
        """
        return _oldest_first(entry for found in (await self._by_tier(filter_, time.time())).values() for entry in found)

    async def load_message(self, entry: DeadLetter) -> DeadLetter:
        """Return a dead letter with its message.

        Raises:
            InvalidMessageError: It no longer exists.
            UnavailableError: It cannot be read.
        """
        found = await load_messages(self._logs.lookups, [entry])
        if not found:
            raise invalid_field("ids", f"dead letter {entry.id} no longer exists")
        return found[0]

    async def redrive(self, filter_: DeadLetterFilter, options: RedriveOptions) -> AsyncGenerator[RedriveOutcome]:
        """Redrive the matching dead letters, each once, and yield the outcome of each.

        A dead letter that cannot be redriven is refused, with the reason. If no ids are given, those that were redriven
        before are skipped.

        An old version of a document is refused if the log has a newer one. A version that is published between this
        check and the redrive is not detected.

        Raises:
            InvalidMessageError: A tier or an id is unknown, or `options` conflicts with `filter_`.
            RetryableError: Another process redrives or purges too, or the broker deleted a dead letter: this redrive
                stopped.
            UnavailableError: The broker does not answer.
        """
        options.check(filter_)
        now = time.time()
        for tier, found in (await self._by_tier(filter_, now)).items():
            if not found:
                continue
            redriver = RedriveExecutor(
                self._logs, tier, partial(self._matching, tier, filter_, now), options, named=bool(filter_.ids)
            )
            async with aclosing(redriver.run()) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def purge(self, filter_: DeadLetterFilter) -> list[DeadLetter]:
        """Purge the matching dead letters: they are no longer listed, and cannot be redriven.

        A marker hides each one immediately from all readers that use this library. Then the log is truncated before the
        first remaining dead letter (Kafka's DeleteRecords): no client can read the records before it, and the broker
        deletes them from disk with their segment, at the latest after the topic's retention time. Other clients can
        read a purged dead letter behind a remaining one until the log is truncated past it, or its retention is over.

        Returns:
            The purged dead letters.

        Raises:
            InvalidMessageError: A tier or an id is unknown.
            RetryableError: Another process redrives or purges too: dead letters purged so far stay purged.
            UnavailableError: The broker does not answer.
        """
        now = time.time()
        purged: list[DeadLetter] = []
        for tier, found in (await self._by_tier(filter_, now)).items():
            if found:
                purged += await self._purge(tier, filter_, now)
        return _oldest_first(purged)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _by_tier(self, filter_: DeadLetterFilter, now: float) -> dict[str, list[DeadLetter]]:
        tiers = filter_.tiers(await self.tiers())
        found = {tier: await self._matching(tier, filter_, now) for tier in tiers}
        known = {id_ for entries in found.values() for entry in entries for id_ in entry.ids}
        if missing := sorted(filter_.ids - known):
            raise invalid_field(
                "ids", f"no dead letter {', '.join(missing)} exists, or it does not match the other filters"
            )
        return found

    async def _matching(self, tier: str, filter_: DeadLetterFilter, now: float) -> list[DeadLetter]:
        return (await self._read(tier, filter_, now)).entries

    async def _read(self, tier: str, filter_: DeadLetterFilter, now: float) -> _TopicSnapshot:
        tenant = self._tenant
        index = DeadLetterIndex(tier, matches=lambda entry: filter_.matches(entry, now, tenant))
        async with self._logs.open_stream(dead_letter_topic_name(tier)) as reader:
            async for batch in reader.read_to_end(within=READ_TIMEOUT):
                for record in batch:
                    index.add(record)
            return _TopicSnapshot(index.entries(), index.positions(), reader.ends)

    # -- purging --------------------------------------------------------------------------------------------------

    async def _purge(self, tier: str, filter_: DeadLetterFilter, now: float) -> list[DeadLetter]:
        topic = dead_letter_topic_name(tier)
        try:
            async with TransactionalProducer(self._logs.access.connection, topic) as transactions:
                # Under the transactional id of redrives: a dead letter is not redriven while it is purged.
                log = await self._read(tier, filter_, now)
                matching = log.entries
                mark = f"{time.time():.3f}"
                marks = [
                    ProducerRecord(topic, *marker(position, DEAD_PURGED, mark))
                    for entry in matching
                    for position in entry.positions
                ]
                for start in range(0, len(marks), MARKERS_PER_TRANSACTION):
                    async with transactions.transaction() as transaction:
                        await transaction.send(marks[start : start + MARKERS_PER_TRANSACTION])
        except ProducerFencedError as error:
            raise RetryableError(
                f"another process started to redrive or purge dead letters of {tier}: run it again for the rest"
            ) from error
        purged = {position for entry in matching for position in entry.positions}
        await self._admin.delete_records_before(topic, first_needed_offsets(log.positions - purged, log.ends))
        return matching


def redrivable(entries: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Return the dead letters that a redrive without ids includes."""
    return [entry for entry in entries if entry.state is DeadLetterState.DEAD]


def _oldest_first(entries: Iterable[DeadLetter]) -> list[DeadLetter]:
    return sorted(entries, key=lambda entry: entry.dead_lettered_at)
