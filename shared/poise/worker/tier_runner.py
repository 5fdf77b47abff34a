"""Serving: the consumers of one tier in one process, each with its intake and what handles its messages."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from poise.contracts.message import Message
from poise.contracts.topics import RETRY_DELAYS, Lane, retry_topic_name
from poise.kafka.consumer import ConcurrentConsumer, ConsumerLimits
from poise.kafka.faststream_adapter import Broker, subscribe
from poise.kafka.group_config import group_config
from poise.kafka.open_transactions import OpenTransactions
from poise.redis.client import RedisClient
from poise.worker import delayed_retries
from poise.worker.connection import MeshConnection
from poise.worker.delayed_retries import DelayedRetryDispatcher
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.processor import MessageProcessor
from poise.worker.retry_policy import RetryBudget
from poise.worker.tier import Tier


class TierRunner:
    """A tier's consumers: one for each of its topics, and one for all its delayed retries.

    Lanes share the process. Each has a consumer of its own, so that a backlog in one is not fetched before the other;
    the batch lane is handled by a share of the concurrency, so that it cannot fill the process either.
    """

    def __init__(
        self, mesh: MeshConnection, redis: RedisClient, broker: Broker, tier: Tier, receipts: IdempotencyGuard
    ) -> None:
        self.intakes: dict[str, ConcurrentConsumer] = {}
        """By the name of the topic, and `retry`."""
        self._mesh = mesh
        self._broker = broker
        self._tier = tier
        budget = RetryBudget()
        deliveries = {topic.name: MessageProcessor(mesh, redis, tier, topic, receipts, budget) for topic in tier.topics}
        for topic in tier.topics:
            delivery = deliveries[topic.name]
            # Of the batch lane a backlog is what is expected: it waits.
            options = {"ordered": topic.ordered, "shed": None if topic.lane == "batch" else delivery.turn_away}
            self._read(topic.name, [topic.name], delivery.deliver, topic.lane, topic.accepts, **options)
            if math.isfinite(topic.deadlines.default):
                held_up = OpenTransactions(mesh.connection, delivery.waiting)
                self.intakes[topic.name].background.append(held_up.watch)
        if deliveries:
            again = {name: delivery.deliver_again for name, delivery in deliveries.items()}
            waiting = DelayedRetryDispatcher(again, next(iter(deliveries.values())).set_aside)
            names = [retry_topic_name(tier.name, delay) for delay in RETRY_DELAYS]
            self._read("retry", names, waiting.deliver, "batch", (Message,), not_before=delayed_retries.due_at)

    def _read(
        self,
        name: str,
        topics: list[str],
        deliver: Callable[..., Any],
        lane: Lane,
        accepts: tuple[type[Message], ...],
        **options: Any,
    ) -> None:
        group = consumer_group(self._tier.name, name)
        intake = ConcurrentConsumer(
            deliver,
            limits=ConsumerLimits(concurrency=self._concurrency(lane)),
            fetch_state=partial(self._mesh.admin.group_state, group),
            part=self._mesh.liveness.component(f"consumer of {name}"),
            identities=self._mesh.topic_identities,
            **{"ordered": False} | options,
        )
        self.intakes[name] = intake
        subscribe(self._broker, topics, group, intake, accepts=accepts, options=group_config(self._mesh.settings))

    def _concurrency(self, lane: Lane) -> int:
        settings = self._mesh.settings
        whole = self._tier.concurrency or settings.concurrency
        return whole if lane == "interactive" else max(1, round(whole * settings.batch_share))


def consumer_group(tier: str, topic: str) -> str:
    """The consumer group in which a tier reads a topic: one each, so that no lane's rebalance touches another's."""
    return f"poise.{tier}:{topic}"
