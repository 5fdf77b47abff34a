"""Dead letter administration: list, show, send again, purge. The command line and the gateway are two faces of it."""

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from poise.contracts.topics import PREFIX, dead_letter_topic_name
from poise.dead_letters.filter import DeadLetterFilter, invalid_field
from poise.dead_letters.model import PURGED, DeadLetter, DeadLetterIndex, DeadLetterState, marker
from poise.dead_letters.redrive import RedriveExecutor, load_messages
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome, first_needed_offsets
from poise.errors import RetryableError
from poise.kafka.logs import Logs
from poise.kafka.record import Position
from poise.kafka.transactions import ProducerRecord, TransactionalProducer

READ_TIMEOUT: Final = 120.0
"""Seconds; all dead letters of a tier."""
MARKERS_PER_TRANSACTION: Final = 1_000
_SUFFIX: Final = dead_letter_topic_name("").removeprefix(PREFIX)


@dataclass(frozen=True, slots=True)
class _TopicSnapshot:
    """A dead-letter topic as it was read."""

    letters: list[DeadLetter]
    """Those that are meant."""
    places: AbstractSet[Position]
    """Where letters stand, others too."""
    ends: Mapping[int, int]


class DeadLetterAdmin:
    """Dead letters of all tiers.

    Sending again is done in transactions: a letter's copy and the marker that says so are there together or not at all,
    and all transactions of a dead-letter topic have one name, under which Kafka lets one writer at a time. So:

    - a process that dies between copy and marker leaves neither: nobody who reads what is committed sees the copy
    - of two people who send again at the same time, the later one shuts the earlier one out, whose open transaction is
      aborted; it then reads the markers, all of them, and sends the rest; the earlier one is told
    - an interrupted redrive is continued by running it again

    The price: workers wait before a copy whose transaction is open. That is some ten milliseconds. Where the process
    was killed in it and nobody runs it again, it is `transactions.ENDED_WITHIN`, and up to ten seconds more until the
    broker looks.
    """

    def __init__(self, logs: Logs, tenant: str) -> None:
        self._logs = logs
        self._admin = logs.access.admin
        self._tenant = tenant

    async def tiers(self) -> list[str]:
        """The tiers that have a dead-letter topic on the broker, those of one's own among them."""
        return sorted(
            name.removeprefix(PREFIX).removesuffix(_SUFFIX)
            for name in await self._admin.list_topics()
            if name.startswith(PREFIX) and name.endswith(_SUFFIX)
        )

    async def select(self, chosen: DeadLetterFilter) -> list[DeadLetter]:
        """The dead letters that are meant, oldest first; without their messages, which `load_messages` reads.

        Raises:
            InvalidMessageError: There is no such tier, an id names no dead letter, or more are meant than can be kept.
            UnavailableError: They cannot be read.
        """
        return _oldest_first(
            letter for found in (await self._by_tier(chosen, time.time())).values() for letter in found
        )

    async def whole(self, letter: DeadLetter) -> DeadLetter:
        """A letter with its message.

        Raises:
            InvalidMessageError: It is not there any more.
            UnavailableError: It cannot be read.
        """
        found = await load_messages(self._logs.lookups, [letter])
        if not found:
            raise invalid_field("ids", f"there is no dead letter {letter.id} any more")
        return found[0]

    async def redrive(self, chosen: DeadLetterFilter, how: RedriveOptions) -> AsyncGenerator[RedriveOutcome]:
        """Send again those that are meant, each once, and say of each what became of it.

        Those that cannot be sent are refused, with the reason; of those that merely fit, the ones that were sent again
        already are passed over.

        An old version of a document is not sent when a newer one is in the log. One that is published between that look
        and the sending comes too late to be seen.

        Raises:
            InvalidMessageError: There is no such tier, an id names no dead letter, or `how` does not go with it.
            RetryableError: Somebody else sends again, or purges, too: this run stopped.
            UnavailableError: The broker does not answer.
        """
        how.check(chosen)
        now = time.time()
        for tier, found in (await self._by_tier(chosen, now)).items():
            if not found:
                continue
            redriver = RedriveExecutor(
                self._logs, tier, partial(self._meant, tier, chosen, now), how, named=bool(chosen.ids)
            )
            async with aclosing(redriver.run()) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def purge(self, chosen: DeadLetterFilter) -> list[DeadLetter]:
        """Purge those that are meant: they are listed no more, and cannot be sent again.

        What goes when: a marker hides each at once from all that reads through this library. Then the log is cut before
        the first letter that is kept (Kafka's DeleteRecords): no client can read what stood there, and the broker takes
        it from its disk with its segment, at the latest when the topic's time is over. A purged letter behind one that
        is kept can be read by a raw client until the log is cut past it or its own time is over.

        Returns:
            Those that were purged.

        Raises:
            InvalidMessageError: There is no such tier, or an id names no dead letter.
            RetryableError: Somebody else sends again, or purges, too: what was purged so far stays so.
            UnavailableError: The broker does not answer.
        """
        now = time.time()
        gone: list[DeadLetter] = []
        for tier, found in (await self._by_tier(chosen, now)).items():
            if found:
                gone += await self._purge(tier, chosen, now)
        return _oldest_first(gone)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _by_tier(self, chosen: DeadLetterFilter, now: float) -> dict[str, list[DeadLetter]]:
        tiers = chosen.tiers(await self.tiers())
        found = {tier: await self._meant(tier, chosen, now) for tier in tiers}
        known = {id_ for letters in found.values() for letter in letters for id_ in letter.ids}
        if missing := sorted(chosen.ids - known):
            raise invalid_field(
                "ids", f"there is no dead letter {', '.join(missing)}, or it does not fit the other filters"
            )
        return found

    async def _meant(self, tier: str, chosen: DeadLetterFilter, now: float) -> list[DeadLetter]:
        return (await self._read(tier, chosen, now)).letters

    async def _read(self, tier: str, chosen: DeadLetterFilter, now: float) -> _TopicSnapshot:
        tenant = self._tenant
        index = DeadLetterIndex(tier, fits=lambda letter: chosen.fits(letter, now, tenant))
        async with self._logs.follow(dead_letter_topic_name(tier)) as follower:
            async for batch in follower.read_to_end(within=READ_TIMEOUT):
                for record in batch:
                    index.add(record)
            return _TopicSnapshot(index.letters(), index.places(), follower.ends)

    # -- purging --------------------------------------------------------------------------------------------------

    async def _purge(self, tier: str, chosen: DeadLetterFilter, now: float) -> list[DeadLetter]:
        topic = dead_letter_topic_name(tier)
        try:
            async with TransactionalProducer(self._logs.access.connection, topic) as transactions:
                # In a transaction for its name: a letter is not sent again while it is purged.
                log = await self._read(tier, chosen, now)
                gone = log.letters
                mark = f"{time.time():.3f}"
                marks = [ProducerRecord(topic, *marker(at, PURGED, mark)) for letter in gone for at in letter.places]
                for start in range(0, len(marks), MARKERS_PER_TRANSACTION):
                    async with transactions.transaction() as transaction:
                        await transaction.send(marks[start : start + MARKERS_PER_TRANSACTION])
        except RetryableError as error:
            raise RetryableError(
                f"somebody else began to send dead letters of {tier} again, or to purge them: run it again for the rest"
            ) from error
        purged = {at for letter in gone for at in letter.places}
        await self._admin.delete_records_before(topic, first_needed_offsets(log.places - purged, log.ends))
        return gone


def redrivable(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Those that are sent again where they merely fit."""
    return [letter for letter in letters if letter.state is DeadLetterState.DEAD]


def _oldest_first(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    return sorted(letters, key=lambda letter: letter.at)
