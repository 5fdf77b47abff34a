"""Delayed retries: messages that are to be handled again later, on topics of their own, where they hold up nobody.

A message is written as it was, with headers added that say where it stood and when it is due. The same tier reads it
there; its partition rests until the first of it is due, and all behind it are due later. It is handled as if it stood
where it stood first, so that its identity (run, document version) is the same; the order of its key is given up.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from poise.contracts.integers import read_integer
from poise.contracts.topics import RETRY_DELAYS, retry_topic_name
from poise.kafka.record import Position, Record, SendRecord, write_time
from poise.kafka.undecodable import undecodable_error

RETRY_OF: Final = "poise-retry-of"
RETRY_WRITTEN: Final = "poise-retry-written"
RETRY_DUE: Final = "poise-retry-due"
RETRY_COUNT: Final = "poise-retry-count"
ATTEMPT: Final = "poise-attempt"

_ADDED_HEADERS: Final = frozenset({RETRY_OF, RETRY_WRITTEN, RETRY_DUE, RETRY_COUNT, ATTEMPT})


@dataclass(frozen=True, slots=True)
class DelayedRetry:
    """A message that comes from a delayed-retry topic."""

    record: Record
    """The message as it stood first."""
    attempts: int
    """Attempts so far."""
    count: int
    """How often it was postponed."""


async def publish(  # noqa: PLR0917 - all of it is said of one message
    send: SendRecord, tier: str, record: Record, delay: float, attempts: int, count: int
) -> Position:
    """Postpone a message, and wait until the broker has it.

    Args:
        send: Sends a record.
        tier: Whose delayed-retry topic.
        record: The message as it stood first.
        delay: One of `RETRY_DELAYS`, seconds.
        attempts: Attempts so far.
        count: How often it will have been postponed.
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
    """The message that a record of a delayed-retry topic holds.

    Raises:
        ValueError: Its headers are not what `publish` writes.
    """
    topic, partition, offset = _original_position(record)
    written = _number(record, RETRY_WRITTEN)
    first = replace(
        record,
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=write_time(written, time.time()),
        log_time=written,
        headers=tuple(item for item in record.headers if item[0] not in _ADDED_HEADERS),
    )
    return DelayedRetry(first, _number(record, ATTEMPT), _number(record, RETRY_COUNT))


def due_at(record: Record) -> float:
    """When a record of a delayed-retry topic is to be handled, unix seconds; at once, if it does not say.

    Never later than by the longest delay: the records behind it wait for it.
    """
    at = record.int_header(RETRY_DUE)
    return 0.0 if at is None else min(at / 1_000, record.timestamp + max(RETRY_DELAYS))


def _original_position(record: Record) -> tuple[str, int, int]:
    topic, *numbers = (record.header(RETRY_OF) or "").rsplit("/", 2)
    partition, offset = map(read_integer, numbers) if len(numbers) == 2 else (None, None)  # noqa: PLR2004
    if partition is None or offset is None:
        raise ValueError(f"header {RETRY_OF} is not topic/partition/offset")
    return topic, partition, offset


def _number(record: Record, name: str) -> int:
    number = record.int_header(name)
    if number is None:
        raise ValueError(f"header {name} is missing, or no whole number")
    return number


class DelayedRetryDispatcher:
    """Hands postponed messages to whoever handles the topics that they came from.

    Args:
        deliver: Handles a message of a topic, by the topic's name.
        set_aside: Keeps a record that nobody can handle.
    """

    def __init__(
        self,
        deliver: Mapping[str, Callable[[DelayedRetry], Awaitable[None]]],
        set_aside: Callable[[Record, Exception], Awaitable[object]],
    ) -> None:
        self._deliver = deliver
        self._set_aside = set_aside

    async def deliver(self, record: Record) -> None:
        """Handle one postponed message, whole."""
        if record.undecodable is not None:
            await self._set_aside(record, undecodable_error(record))
            return
        try:
            postponed = decode(record)
            deliver = self._deliver[postponed.record.topic]
        except (ValueError, KeyError) as error:
            await self._set_aside(record, error)
            return
        await deliver(postponed)
