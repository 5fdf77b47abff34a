"""A FastStream subscriber that hands its consumer to Poise's own consume loop.

FastStream's message pipeline costs about 90 µs a message, and acknowledges first or one message at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.kafka import KafkaBroker
from faststream.kafka.schemas import Topic as DeclaredTopic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import DefaultSubscriber
from faststream.response import Response

from poise.kafka.consume_loop import ConsumeLoop
from poise.kafka.patches import lenient_fetch, offset_fetch, static_membership
from poise.kafka.patches.versions import check_version
from poise.kafka.record import Record
from poise.kafka.shielded import shielded_stop


class ConcurrentSubscriber(DefaultSubscriber):
    """A FastStream subscriber whose messages go through a `ConsumeLoop`: many at once, at least once."""

    def __init__(
        self,
        config: KafkaSubscriberConfig,
        specification: KafkaSubscriberSpecification,
        calls: CallsCollection[Any],
        *,
        loop: ConsumeLoop,
    ) -> None:
        super().__init__(config, specification, calls)
        self._loop = loop

    @property
    def builder(self) -> Callable[..., AIOKafkaConsumer]:
        """Return the function that creates the consumer, with aiokafka's patches installed."""

        def build(*args: Any, **options: Any) -> AIOKafkaConsumer:
            consumer = super(ConcurrentSubscriber, self).builder(*args, **options)
            offset_fetch.install(consumer._client)  # noqa: SLF001 - not public
            static_membership.install(consumer, self._loop.fenced)
            lenient_fetch.install()
            return consumer

        return build

    async def _run_consume_loop(self, consumer: AIOKafkaConsumer) -> None:
        await self._loop.run(consumer)

    async def stop(self) -> None:
        """Drain, then leave the group."""
        await self._loop.drain()
        await shielded_stop(super().stop())

    async def process_message(self, msg: ConsumerRecord[Any, Any]) -> Response:
        """Handle one message outside the consume loop, for the in-memory test broker."""
        await self._loop.handle(Record.of(msg))
        return Response(None)


def install(
    broker: KafkaBroker, topics: Sequence[str], group: str, loop: ConsumeLoop, options: Mapping[str, Any]
) -> ConcurrentSubscriber:
    """Register a `ConcurrentSubscriber` with a broker.

    FastStream does not start a subscriber that no function is declared for: see `faststream_adapter.subscribe`.

    Args:
        broker: FastStream's broker.
        topics: The topics to read.
        group: The consumer group.
        loop: Takes messages from the consumer.
        options: Further options of the consumer.
    """
    check_version("faststream")
    outer = broker.config
    declared = [DeclaredTopic(name, declare=False) for name in topics]
    config = KafkaSubscriberConfig(
        topics=declared,
        group_id=group,
        connection_args=dict(options),
        listener=loop.listener,
        no_reply=True,
        _outer_config=outer,  # type: ignore[arg-type]  # FastStream passes its composed configuration on in the same way
        _ack_policy=AckPolicy.MANUAL,
    )
    calls: CallsCollection[Any] = CallsCollection()
    specification = KafkaSubscriberSpecification(
        _outer_config=outer,  # type: ignore[arg-type]
        calls=calls,
        specification_config=KafkaSubscriberSpecificationConfig(
            topics=declared, title_=" ".join(topics), description_=None, include_in_schema=True
        ),
    )
    subscriber = ConcurrentSubscriber(config, specification, calls, loop=loop)
    Registrator.subscriber(broker, subscriber)
    return subscriber
