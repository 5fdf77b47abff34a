"""A static member that is fenced reports it; heartbeats carry the instance name."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest

from poise.kafka.patches import static_membership
from poise.kafka.patches.static_membership import FENCED, FencedError, HeartbeatRequest_v3, NamedHeartbeatRequest

HEARTBEAT = HeartbeatRequest("group", 3, "member")
JOIN = JoinGroupRequest("group", 10_000, 10_000, "", "name", "consumer", [])


class StaticMemberConsumer:
    """The part of an AIOKafkaConsumer that the patch uses."""

    def __init__(self, instance: str | None, error_code: int) -> None:
        self._group_instance_id = instance
        self.sent: list[Any] = []
        self.response = SimpleNamespace(error_code=error_code)
        self._client = SimpleNamespace(send=self._send)

    async def _send(self, _node: int, request: Any) -> Any:
        self.sent.append(request)
        return self.response

    async def send(self, request: Any) -> Any:
        return await self._client.send(1, request)


def patched(instance: str | None, error_code: int, fenced: list[str]) -> StaticMemberConsumer:
    consumer = StaticMemberConsumer(instance, error_code)
    anything: Any = consumer
    static_membership.install(anything, fenced.append)
    return consumer


async def test_a_heartbeat_names_its_instance() -> None:
    consumer = patched("name", 0, [])
    assert await consumer.send(HEARTBEAT) is consumer.response
    (sent,) = consumer.sent
    assert isinstance(sent, NamedHeartbeatRequest)
    assert sent.build(HeartbeatRequest_v3) == HeartbeatRequest_v3("group", 3, "member", "name")


async def test_a_fenced_member_is_reported_and_raises() -> None:
    fenced: list[str] = []
    consumer = patched("name", FENCED, fenced)
    with pytest.raises(FencedError, match="name is fenced"):
        await consumer.send(JOIN)
    assert fenced == ["name"]


async def test_a_fenced_heartbeat_is_never_answered() -> None:
    fenced: list[str] = []
    consumer = patched("name", FENCED, fenced)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await consumer.send(HEARTBEAT)
    assert fenced == ["name"]


async def test_a_consumer_without_a_name_is_not_patched() -> None:
    fenced: list[str] = []
    consumer = patched(None, FENCED, fenced)
    assert await consumer.send(HEARTBEAT) is consumer.response
    assert consumer.sent == [HEARTBEAT]
    assert not fenced
