"""The seam with FastStream: where its broker and subscribers are kept and its message pipeline is replaced.

Brokers and handlers are declared with FastStream; from it come AsyncAPI and the in-memory test broker. Its pipeline
costs about 90 µs a message and acknowledges first or one by one, so on the path of a message our subscriber does the
work itself (`Intake`, then `Delivery`), and `Producer` writes. This module alone touches names that FastStream calls
private; it is pinned to a minor version, and tests/unit/kafka/test_faststream_adapter.py fails when the seam moves.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.kafka import KafkaBroker
from faststream.kafka.schemas import Topic as DeclaredTopic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import DefaultSubscriber
from faststream.response import Response

from poise.contracts.document import Deletion
from poise.contracts.message import Message, Request
from poise.kafka.connection import Connection
from poise.kafka.patches.lenient_fetch import read_tolerantly
from poise.kafka.patches.offset_fetch import heed_errors
from poise.kafka.record import Record
from poise.kafka.static_membership import heed_fencing

Broker = KafkaBroker
"""FastStream's broker, under a name that does not require importing FastStream."""


class Intake(Protocol):
    """What takes messages from a consumer in FastStream's place."""

    @property
    def listener(self) -> ConsumerRebalanceListener:
        """Told when partitions come and go."""

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Take messages until told to drain."""

    async def drain(self) -> None:
        """Take no more, finish what is begun, commit."""

    def deliver(self, record: Record, /) -> Awaitable[None]:
        """Handle one message, whole."""

    def fenced(self, name: str) -> None:
        """Hear that another process has taken this one's place in the group, under its name."""


class ConcurrentSubscriber(DefaultSubscriber):
    """A FastStream subscriber whose messages go through an `Intake`, many at once, at least once."""

    def __init__(
        self,
        config: KafkaSubscriberConfig,
        specification: KafkaSubscriberSpecification,
        calls: CallsCollection[Any],
        *,
        intake: Intake,
    ) -> None:
        super().__init__(config, specification, calls)
        self._intake = intake

    @property
    def builder(self) -> Callable[..., AIOKafkaConsumer]:
        """What makes the consumer."""

        def build(*args: Any, **options: Any) -> AIOKafkaConsumer:
            consumer = super(ConcurrentSubscriber, self).builder(*args, **options)
            heed_errors(consumer._client)  # noqa: SLF001 - has no public way
            heed_fencing(consumer, self._intake.fenced)
            read_tolerantly()
            return consumer

        return build

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        await self._intake.run(consumer)

    async def stop(self) -> None:
        """Drain, then leave the group."""
        await self._intake.drain()
        await super().stop()

    async def process_message(self, msg: ConsumerRecord[Any, Any]) -> Response:
        """Handle one message outside the consume loop, as the in-memory test broker asks for."""
        await self._intake.deliver(Record.of(msg))
        return Response(None)


def new_broker(connection: Connection) -> Broker:
    """A FastStream broker that reads; what is written goes through `Producer`."""
    return KafkaBroker(
        list(connection.bootstrap),
        client_id=connection.client_id,
        security=connection.faststream(),
        consumer_only=True,
        logger=None,
    )


def subscribe(
    broker: Broker,
    names: Sequence[str],
    group: str,
    intake: Intake,
    *,
    accepts: Iterable[type[Message]],
    connection: Mapping[str, Any],
) -> ConcurrentSubscriber:
    """Register a subscriber of ours with the broker, and declare what it takes and answers for AsyncAPI.

    It must take something: a subscriber without a declaration is never started. `Message` = whatever comes.
    """
    outer = broker.config
    topics = [DeclaredTopic(name, declare=False) for name in names]
    config = KafkaSubscriberConfig(
        topics=topics,
        group_id=group,
        connection_args=dict(connection),
        listener=intake.listener,
        no_reply=True,
        _outer_config=outer,  # type: ignore[arg-type]  # FastStream hands its composed configuration on, as here
        _ack_policy=AckPolicy.MANUAL,
    )
    calls: CallsCollection[Any] = CallsCollection()
    specification = KafkaSubscriberSpecification(
        _outer_config=outer,  # type: ignore[arg-type]
        calls=calls,
        specification_config=KafkaSubscriberSpecificationConfig(
            topics=topics, title_=" ".join(names), description_=None, include_in_schema=True
        ),
    )
    subscriber = ConcurrentSubscriber(config, specification, calls, intake=intake)
    Registrator.subscriber(broker, subscriber)
    for kind in accepts:
        if kind is not Deletion:
            subscriber(_declaration(kind))
    return subscriber


def _declaration(kind: type[Message]) -> Callable[[Any], Awaitable[Any]]:
    """A function that FastStream reads the message's and the reply's schema from; it is never called."""

    async def declared(request: Any) -> Any:
        raise NotImplementedError(f"{kind.__name__} {request!r} went past the intake")

    name = "any" if kind is Message else kind.kind.partition("/")[0]
    declared.__name__ = declared.__qualname__ = name.replace("-", "_")
    declared.__doc__ = kind.__doc__
    reply = kind.reply if issubclass(kind, Request) else None
    declared.__annotations__ = {"request": kind, "return": reply}
    return declared
