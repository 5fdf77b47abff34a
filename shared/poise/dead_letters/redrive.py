"""Redrive: sends the dead letters of one tier again, each resent message and its marker in one transaction."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from poise.contracts.headers import DEAD_REDRIVEN
from poise.contracts.topics import CATALOGUE, dead_letter_topic_name
from poise.dead_letters.model import DeadLetter, DeadLetterState, marker
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome, batches, redrive_headers, refusal_reason
from poise.errors import RecordTooLargeError, RetryableError
from poise.kafka.log_lookup import LogLookup
from poise.kafka.logs import Logs
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Position, Record
from poise.kafka.transactions import ProducerFencedError, ProducerRecord, TransactionalProducer

READ_TIMEOUT: Final = 120.0
"""Seconds to read a partition of a compacted topic."""

ReadDeadLetters = Callable[[], Awaitable[Sequence[DeadLetter]]]
"""Reads the matching dead letters in their current state."""


class RedriveExecutor:
    """Redrives dead letters; see `DeadLetterAdmin`.

    Args:
        logs: Reads topics.
        tier: The tier of the dead letters.
        read: Reads the matching dead letters.
        options: How they are redriven.
        named: The dead letters were selected by id; otherwise those that were redriven before are skipped.
    """

    def __init__(self, logs: Logs, tier: str, read: ReadDeadLetters, options: RedriveOptions, *, named: bool) -> None:
        self._logs = logs
        self._tier = tier
        self._read = read
        self._options = options
        self._named = named
        self._done: set[str] = set()
        self._alone: frozenset[str] = frozenset()
        self._next = 0.0
        self.sent = 0

    async def run(self) -> AsyncGenerator[RedriveOutcome]:
        """Redrive the dead letters, and yield the outcome of each."""
        planned = await self._plan()
        if self._options.dry_run or all(outcome.refused for outcome in planned):
            # No transaction: it would fence other redrives.
            for outcome in planned:
                yield outcome
            return
        try:
            while not self._finished(planned):  # again after a batch that was too large for one transaction
                async with TransactionalProducer(
                    self._logs.access.connection, dead_letter_topic_name(self._tier)
                ) as transactions:
                    # From here on no other process writes markers: what is read now is valid until it is fenced.
                    planned = [outcome for outcome in await self._plan() if outcome.entry.id not in self._done]
                    for outcome in planned:
                        if outcome.refused is not None:
                            self._done.add(outcome.entry.id)
                            yield outcome
                    async for outcome in self._send_all(transactions, [o.entry for o in planned if o.refused is None]):
                        yield outcome
        except ProducerFencedError as error:
            raise RetryableError(
                f"another process started to redrive or purge dead letters of {self._tier}: this redrive stopped "
                f"after {self.sent}; run it again for the rest"
            ) from error

    def _finished(self, planned: Sequence[RedriveOutcome]) -> bool:
        return all(outcome.entry.id in self._done for outcome in planned)

    # -- planning -------------------------------------------------------------------------------------------------

    async def _plan(self) -> list[RedriveOutcome]:
        """Return the dead letters to redrive, and those that are refused, with the reason."""
        entries = [entry for entry in await self._read() if self._named or entry.state is not DeadLetterState.REDRIVEN]
        topics = await self._logs.access.admin.list_topics()
        newest = await self._newest(entries, topics)
        now = time.time()
        return [
            RedriveOutcome(entry, refused=refusal_reason(entry, self._options, now, newest, topics))
            for entry in entries
        ]

    async def _newest(
        self, entries: Sequence[DeadLetter], topics: Mapping[str, int]
    ) -> dict[tuple[str, bytes], Position]:
        """Return the position of the newest record of each dead letter's key, in compacted topics."""
        keys = {
            (entry.topic, entry.record.key)
            for entry in entries
            if entry.record.key is not None
            and entry.topic in topics
            and entry.topic in CATALOGUE
            and CATALOGUE[entry.topic].compacted
        }
        found: dict[tuple[str, bytes], Position] = {}
        for topic, partition in sorted({(topic, partition_for(key, topics[topic])) for topic, key in keys}):
            async with self._logs.open_stream(topic, partitions=[partition]) as reader:
                async for batch in reader.read_to_end(within=READ_TIMEOUT):
                    found |= {
                        (topic, record.key): record.position
                        for record in batch
                        if record.key is not None and (topic, record.key) in keys
                    }
        return found

    # -- sending --------------------------------------------------------------------------------------------------

    async def _send_all(
        self, transactions: TransactionalProducer, entries: Sequence[DeadLetter]
    ) -> AsyncGenerator[RedriveOutcome]:
        """Redrive dead letters in batches. Stop at a batch that the broker refuses: the producer must be reopened."""
        for batch in batches(entries, self._options.rate, self._alone):
            await self._wait_for_turn(len(batch))
            try:
                positions = await self._send(transactions, batch)
            except RecordTooLargeError as error:
                if len(batch) == 1:  # otherwise the batch is sent again, one by one, to find the refused one
                    self._done.add(batch[0].id)
                    yield RedriveOutcome(batch[0], refused=f"{batch[0].id} is refused by {batch[0].topic}: {error}")
                self._alone |= {entry.id for entry in batch}
                return
            self.sent += len(batch)
            self._done |= {entry.id for entry in batch}
            for entry, position in zip(batch, positions, strict=True):
                yield RedriveOutcome(entry, sent=position)

    async def _send(self, transactions: TransactionalProducer, batch: Sequence[DeadLetter]) -> list[Position]:
        entries = await load_messages(self._logs.lookups, batch)
        if len(entries) < len(batch):  # the topic was truncated, by a purge or its retention
            raise RetryableError(
                f"dead letters of {self._tier} no longer exist: they were purged, or their retention ended; this "
                f"redrive stopped after {self.sent}; run it again for the rest"
            )
        resent = [
            ProducerRecord(
                entry.topic,
                entry.record.key,
                entry.record.value,
                redrive_headers(entry, self._options),
                await self._partition(entry),
            )
            for entry in entries
        ]
        async with transactions.transaction() as transaction:
            positions = await transaction.send(resent)
            await transaction.send(
                [
                    ProducerRecord(
                        dead_letter_topic_name(self._tier), *marker(dead_letter_position, DEAD_REDRIVEN, str(position))
                    )
                    for entry, position in zip(batch, positions, strict=True)
                    for dead_letter_position in entry.positions
                ]
            )
        return positions

    async def _partition(self, entry: DeadLetter) -> int | None:
        key = entry.record.key
        return None if key is None else await self._logs.partition_of(entry.topic, key)

    async def _wait_for_turn(self, count: int) -> None:
        if self._options.rate is None:
            return
        now = time.monotonic()
        await asyncio.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + count / self._options.rate


async def load_messages(lookups: LogLookup, entries: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return dead letters with their messages, in order; those that no longer exist are omitted.

    Raises:
        UnavailableError: They cannot be read.
    """
    found: dict[Position, Record] = {}
    for tier in {entry.tier for entry in entries}:
        positions = [entry.record.position for entry in entries if entry.tier == tier]
        found |= await lookups.read_at(dead_letter_topic_name(tier), positions)
    return [replace(entry, record=found[entry.record.position]) for entry in entries if entry.record.position in found]
