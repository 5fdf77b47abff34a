"""Redriver: sends dead letters of one tier again, each copy and its marker in one transaction."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from poise.contracts.topics import CATALOGUE, dead_letter_topic_name
from poise.dead_letters.model import REDRIVEN, DeadLetter, DeadLetterState, marker
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome, batches, redrive_headers, refusal_reason
from poise.errors import RetryableError
from poise.kafka.log_lookup import LogLookup
from poise.kafka.logs import Logs
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Position, Record
from poise.kafka.transactions import ProducerRecord, TooLargeError, TransactionalProducer

READ_TIMEOUT: Final = 120.0
"""Seconds; a partition of a compacted topic."""

ReadDeadLetters = Callable[[], Awaitable[Sequence[DeadLetter]]]
"""The letters that are meant, as they stand now."""


class RedriveExecutor:
    """Sends dead letters again; see `DeadLetterAdmin`.

    Args:
        logs: Reads topics.
        tier: Whose letters.
        read: Reads those that are meant.
        how: How they are sent.
        named: Each is meant by its id; else they merely fit, and those that were sent already are passed over.
    """

    def __init__(self, logs: Logs, tier: str, read: ReadDeadLetters, how: RedriveOptions, *, named: bool) -> None:
        self._logs = logs
        self._tier = tier
        self._read = read
        self._how = how
        self._named = named
        self._settled: set[str] = set()
        self._alone: frozenset[str] = frozenset()
        self._next = 0.0
        self.sent = 0

    async def run(self) -> AsyncGenerator[RedriveOutcome]:
        """Send them, and say of each what became of it."""
        looked = await self._look()
        if self._how.dry_run or all(outcome.refused for outcome in looked):  # needs no transaction: disturb nobody
            for outcome in looked:
                yield outcome
            return
        try:
            while not self._finished(looked):
                async with TransactionalProducer(
                    self._logs.access.connection, dead_letter_topic_name(self._tier)
                ) as transactions:
                    # From here on nobody else writes markers: what is read now holds until this one is shut out.
                    looked = [outcome for outcome in await self._look() if outcome.letter.id not in self._settled]
                    for outcome in looked:
                        if outcome.refused is not None:
                            self._settled.add(outcome.letter.id)
                            yield outcome
                    async for outcome in self._send_all(transactions, [o.letter for o in looked if o.refused is None]):
                        yield outcome
        except RetryableError as error:
            raise RetryableError(
                f"somebody else began to send dead letters of {self._tier} again, or to purge them: this run stopped "
                f"after {self.sent}; run it again for the rest"
            ) from error

    def _finished(self, looked: Sequence[RedriveOutcome]) -> bool:
        return all(outcome.letter.id in self._settled for outcome in looked)

    # -- looking --------------------------------------------------------------------------------------------------

    async def _look(self) -> list[RedriveOutcome]:
        """What is to be sent, and what is refused, with the reason."""
        letters = [
            letter for letter in await self._read() if self._named or letter.state is not DeadLetterState.REDRIVEN
        ]
        topics = await self._logs.access.admin.list_topics()
        newest = await self._newest(letters, topics)
        now = time.time()
        return [
            RedriveOutcome(letter, refused=refusal_reason(letter, self._how, now, newest, topics)) for letter in letters
        ]

    async def _newest(
        self, letters: Sequence[DeadLetter], topics: Mapping[str, int]
    ) -> dict[tuple[str, bytes], Position]:
        """Where the newest record of each letter's key stands, in topics of which the newest alone counts."""
        keys = {
            (letter.topic, letter.record.key)
            for letter in letters
            if letter.record.key is not None
            and letter.topic in topics
            and letter.topic in CATALOGUE
            and CATALOGUE[letter.topic].compacted
        }
        found: dict[tuple[str, bytes], Position] = {}
        for topic, partition in sorted({(topic, partition_for(key, topics[topic])) for topic, key in keys}):
            async with self._logs.follow(topic, partitions=[partition]) as follower:
                async for batch in follower.read_to_end(within=READ_TIMEOUT):
                    found |= {
                        (topic, record.key): record.position
                        for record in batch
                        if record.key is not None and (topic, record.key) in keys
                    }
        return found

    # -- sending --------------------------------------------------------------------------------------------------

    async def _send_all(
        self, transactions: TransactionalProducer, letters: Sequence[DeadLetter]
    ) -> AsyncGenerator[RedriveOutcome]:
        """Send them, up to a batch of which a letter is refused: it ends the transactions, and they are opened anew."""
        for batch in batches(letters, self._how.rate, self._alone):
            await self._wait_for_turn(len(batch))
            try:
                positions = await self._send(transactions, batch)
            except TooLargeError as error:
                if len(batch) == 1:  # else the same are sent again, one by one, to see which it is
                    self._settled.add(batch[0].id)
                    yield RedriveOutcome(batch[0], refused=f"{batch[0].id} is refused by {batch[0].topic}: {error}")
                self._alone |= {letter.id for letter in batch}
                return
            self.sent += len(batch)
            self._settled |= {letter.id for letter in batch}
            for letter, position in zip(batch, positions, strict=True):
                yield RedriveOutcome(letter, sent=position)

    async def _send(self, transactions: TransactionalProducer, batch: Sequence[DeadLetter]) -> list[Position]:
        letters = await load_messages(self._logs.lookups, batch)
        if len(letters) < len(batch):  # its topic was cut: by whoever purged, or because its time was over
            raise RetryableError(f"dead letters of {self._tier} are not there any more")
        copies = [
            ProducerRecord(
                letter.topic,
                letter.record.key,
                letter.record.value,
                redrive_headers(letter, self._how),
                await self._partition(letter),
            )
            for letter in letters
        ]
        async with transactions.transaction() as transaction:
            positions = await transaction.send(copies)
            await transaction.send(
                [
                    ProducerRecord(dead_letter_topic_name(self._tier), *marker(at, REDRIVEN, str(position)))
                    for letter, position in zip(batch, positions, strict=True)
                    for at in letter.places
                ]
            )
        return positions

    async def _partition(self, letter: DeadLetter) -> int | None:
        key = letter.record.key
        return None if key is None else await self._logs.partition_of(letter.topic, key)

    async def _wait_for_turn(self, letters: int) -> None:
        if self._how.rate is None:
            return
        now = time.monotonic()
        await asyncio.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + letters / self._how.rate


async def load_messages(lookups: LogLookup, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Dead letters with their messages, in their order; those that are not there any more are left out.

    Raises:
        UnavailableError: They cannot be read.
    """
    found: dict[Position, Record] = {}
    for tier in {letter.tier for letter in letters}:
        places = [letter.record.position for letter in letters if letter.tier == tier]
        found |= await lookups.read_at(dead_letter_topic_name(tier), places)
    return [
        replace(letter, record=found[letter.record.position]) for letter in letters if letter.record.position in found
    ]
