"""The interface between a FastStream subscriber and what reads its consumer."""

from collections.abc import Awaitable
from typing import Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener

from poise.kafka.record import Record


class ConsumeLoop(Protocol):
    """Takes messages from a consumer in place of FastStream's own loop."""

    @property
    def listener(self) -> ConsumerRebalanceListener:
        """The listener that is called when partitions are assigned and revoked."""

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Take messages until `drain` is called."""

    async def drain(self) -> None:
        """Stop taking messages, finish those in progress, commit."""

    def handle(self, record: Record, /) -> Awaitable[None]:
        """Handle one message."""

    def fenced(self, instance: str) -> None:
        """Report that another process has joined the group under the same instance name."""
