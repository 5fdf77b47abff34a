"""Delayed retries: messages to handle again later, on topics of their own, where they block no other message.

A message is written unchanged, with headers added for its original position and its due time. The same tier reads it
there. The partition is paused until its first message is due; all messages behind it are due later. The message is
handled as if it were at its original position, so that its identity (run, document version) is unchanged. The order of
its key is lost.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from poise.contracts.headers import ATTEMPT, RETRY_COUNT, RETRY_DUE, RETRY_HEADERS, RETRY_OF, RETRY_WRITTEN
from poise.contracts.integers import read_integer
from poise.contracts.topics import RETRY_DELAYS, retry_topic_name
from poise.kafka.record import Position, Record, SendRecord, write_time
from poise.kafka.undecodable import undecodable_error

_ADDED_HEADERS: Final = frozenset({*RETRY_HEADERS, ATTEMPT})


@dataclass(frozen=True, slots=True)
class DelayedRetry:
    """A message from a delayed-retry topic."""

    record: Record
    """The message at its original position."""
    attempts: int
    """Attempts so far."""
    count: int
    """How often it was delayed."""


async def publish(send: SendRecord, tier: str, record: Record, *, delay: float, attempts: int, count: int) -> Position:
    """Write a message to a delayed-retry topic and wait for the broker's acknowledgement.

    Args:
        send: Sends a record.
        tier: The tier of the delayed-retry topic.
        record: The message at its original position.
        delay: One of `RETRY_DELAYS`, seconds.
        attempts: Attempts so far.
        count: How often the message has been delayed, this time included.
    """
    headers = [item for item in record.headers if item[0] not in _ADDED_HEADERS]
    headers += [
        (RETRY_OF, str(record.position).encode()),
        (RETRY_WRITTEN, str(record.log_time_ms).encode()),
        (RETRY_DUE, str(round((time.time() + delay) * 1_000)).encode()),
        (RETRY_COUNT, str(count).encode()),
        (ATTEMPT, str(attempts).encode()),
    ]
    return await send(retry_topic_name(tier, delay), record.value, key=record.key, headers=headers)


def decode(record: Record) -> DelayedRetry:
    """Return the message that a record of a delayed-retry topic holds.

    Raises:
        ValueError: `publish` did not write its headers.
    """
    topic, partition, offset = _original_position(record)
    written = _int_header(record, RETRY_WRITTEN)
    original = replace(
        record,
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=write_time(written, time.time()),
        log_time=written,
        headers=tuple(item for item in record.headers if item[0] not in _ADDED_HEADERS),
    )
    return DelayedRetry(original, _int_header(record, ATTEMPT), _int_header(record, RETRY_COUNT))


def due_at(record: Record) -> float:
    """Return when to handle a record of a delayed-retry topic, in Unix seconds; 0 if no header says it.

    At most the longest delay after the record was written, because the records behind it wait for it.
    """
    due = record.int_header(RETRY_DUE)
    return 0.0 if due is None else min(due / 1_000, record.timestamp + max(RETRY_DELAYS))


def _original_position(record: Record) -> tuple[str, int, int]:
    topic, *numbers = (record.header(RETRY_OF) or "").rsplit("/", 2)
    partition, offset = map(read_integer, numbers) if len(numbers) == 2 else (None, None)  # noqa: PLR2004
    if partition is None or offset is None:
        raise ValueError(f"header {RETRY_OF} is not topic/partition/offset")
    return topic, partition, offset


def _int_header(record: Record, name: str) -> int:
    number = record.int_header(name)
    if number is None:
        raise ValueError(f"header {name} is missing or not a whole number")
    return number


class DelayedRetryDispatcher:
    """Passes delayed messages to the processors of the topics they came from.

    Args:
        processors: Processes a message of a topic, by the topic's name.
        dead_letter: Dead-letters a record that no processor can handle.
    """

    def __init__(
        self,
        processors: Mapping[str, Callable[[DelayedRetry], Awaitable[None]]],
        dead_letter: Callable[[Record, Exception], Awaitable[object]],
    ) -> None:
        self._processors = processors
        self._dead_letter = dead_letter

    async def dispatch(self, record: Record) -> None:
        """Process one record of a delayed-retry topic."""
        if record.undecodable is not None:
            await self._dead_letter(record, undecodable_error(record))
            return
        try:
            retry = decode(record)
            process = self._processors[retry.record.topic]
        except (ValueError, KeyError) as error:
            await self._dead_letter(record, error)
            return
        await process(retry)
