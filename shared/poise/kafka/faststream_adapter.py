"""FastStream's broker and its subscribers, and the message types that they declare for AsyncAPI.

Brokers and handlers are declared with FastStream, which generates AsyncAPI and has an in-memory test broker. Messages
bypass its pipeline: `patches.faststream_subscriber` hands its consumers to `ConcurrentConsumer`, and `Producer` writes.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from faststream.kafka import KafkaBroker

from poise.contracts.document import Deletion
from poise.contracts.message import Message, Request
from poise.kafka.connection import Connection
from poise.kafka.consume_loop import ConsumeLoop
from poise.kafka.patches import faststream_subscriber
from poise.kafka.patches.faststream_subscriber import ConcurrentSubscriber

Broker = KafkaBroker
"""FastStream's broker, under a name that does not require importing FastStream."""


def new_broker(connection: Connection) -> Broker:
    """Return a FastStream broker that only reads; `Producer` writes."""
    return KafkaBroker(
        list(connection.bootstrap),
        client_id=connection.client_id,
        security=connection.faststream_security(),
        consumer_only=True,
        logger=None,
    )


def subscribe(
    broker: Broker,
    topics: Sequence[str],
    group: str,
    loop: ConsumeLoop,
    *,
    accepts: Iterable[type[Message]],
    options: Mapping[str, Any],
) -> ConcurrentSubscriber:
    """Register a subscriber with the broker, and declare what it accepts and returns for AsyncAPI.

    Args:
        broker: FastStream's broker.
        topics: The topics to read.
        group: The consumer group.
        loop: Takes messages from the consumer.
        accepts: The types of message, at least one: FastStream does not start a subscriber without a declaration.
            `Message` stands for any type.
        options: Further options of the consumer.
    """
    subscriber = faststream_subscriber.install(broker, topics, group, loop, options)
    for message_type in accepts:
        if message_type is not Deletion:
            subscriber(_declaration(message_type))
    return subscriber


def _declaration(message_type: type[Message]) -> Callable[[Any], Awaitable[Any]]:
    """Return a function from whose annotations FastStream reads the schemas; it is never called."""

    async def declared(request: Any) -> Any:
        raise NotImplementedError(f"{message_type.__name__} {request!r} bypassed the consume loop")

    name = "any" if message_type is Message else message_type.kind.partition("/")[0]
    declared.__name__ = declared.__qualname__ = name.replace("-", "_")
    declared.__doc__ = message_type.__doc__
    reply = message_type.reply if issubclass(message_type, Request) else None
    declared.__annotations__ = {"request": message_type, "return": reply}
    return declared
