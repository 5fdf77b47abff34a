"""Static membership: end a process when another one joins its group under the same instance name.

Without this patch two processes with one name evict each other every half second, for as long as both run:

    the second joins the group → Kafka gives it the place of the first → the first sends a heartbeat, in which
    aiokafka 0.14 does not give the name → the answer is "unknown member" → aiokafka takes that for an expired session
    and joins again as a new member → Kafka gives it the place of the second → …

With the name in the heartbeat (Kafka 2.3) the answer is "fenced".
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import (
    HeartbeatRequest,
    HeartbeatRequest_v0,
    HeartbeatRequest_v1,
    HeartbeatResponse_v1,
    JoinGroupRequest,
    SyncGroupRequest,
)
from aiokafka.protocol.types import Int32, Schema, String

from poise.errors import SetupError
from poise.kafka.patches.versions import check_version

FENCED: Final = 82
"""Kafka's error code FENCED_INSTANCE_ID, which aiokafka does not know."""


class HeartbeatResponse_v3(Response):  # noqa: N801 - aiokafka's naming
    """The response to a heartbeat."""

    API_KEY = 12
    API_VERSION = 3
    SCHEMA = HeartbeatResponse_v1.SCHEMA


class HeartbeatRequest_v3(RequestStruct):  # noqa: N801
    """A heartbeat that names its instance."""

    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse_v3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


AnyHeartbeat = HeartbeatRequest_v0 | HeartbeatRequest_v1 | HeartbeatRequest_v3


class NamedHeartbeatRequest(Request[HeartbeatRequest_v0 | HeartbeatRequest_v1 | HeartbeatRequest_v3]):
    """A heartbeat that names its instance if the broker supports it."""

    API_KEY = 12

    def __init__(self, heartbeat: HeartbeatRequest, instance: str) -> None:
        self._fields = (heartbeat._group, heartbeat._generation_id, heartbeat._member_id)  # noqa: SLF001
        self._instance = instance

    def build(self, request_struct_class: type[AnyHeartbeat]) -> AnyHeartbeat:
        """Return the heartbeat in a version that the broker supports."""
        if request_struct_class is HeartbeatRequest_v3:
            return request_struct_class(*self._fields, self._instance)
        return request_struct_class(*self._fields)


class FencedError(KafkaError):
    """Another process has joined the group under the same name."""


def fenced_error(instance: str) -> SetupError:
    """Return the error that ends the process of a fenced instance."""
    return SetupError(f"another process also has the name {instance}: set POISE_INSTANCE to a unique name")


def install(consumer: AIOKafkaConsumer, on_fenced: Callable[[str], None]) -> None:
    """Make a consumer report that another process has taken its place; do nothing if it has no instance name.

    Args:
        consumer: A consumer that is not started yet.
        on_fenced: Called with the instance name.
    """
    check_version("aiokafka")
    instance: str | None = consumer._group_instance_id  # noqa: SLF001 - not public
    if instance is None:
        return
    client: Any = consumer._client  # noqa: SLF001 - not public
    send = client.send

    async def send_named(node: int, request: Any, **options: Any) -> Any:
        is_heartbeat = isinstance(request, HeartbeatRequest)
        named = NamedHeartbeatRequest(request, instance) if is_heartbeat else request
        response = await send(node, named, **options)
        if is_heartbeat or isinstance(request, JoinGroupRequest | SyncGroupRequest):
            if response.error_code != FENCED:
                return response
            on_fenced(instance)
            if is_heartbeat:
                await asyncio.Event().wait()  # until the process ends: further heartbeats would be refused
            raise FencedError(f"{instance} is fenced")
        return response

    client.send = send_named
