"""Static membership: a process whose name another one has taken in a group is told so, and ends.

Two processes have the same name → the second joins the group, and Kafka puts it in the place of the first → the first
one's heartbeat, in which aiokafka 0.14 does not give the name, is answered "unknown member" → aiokafka takes that for a
session that has run out, joins again as a new member, and is put in the place of the second, and so on: each is thrown
out every half second, for as long as both run. With the name in the heartbeat (Kafka 2.3) the answer is "fenced".
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

FENCED: Final = 82
"""Kafka's FENCED_INSTANCE_ID, which aiokafka does not know."""


class HeartbeatResponse_v3(Response):  # noqa: N801 - as aiokafka calls them
    """The answer to a heartbeat."""

    API_KEY = 12
    API_VERSION = 3
    SCHEMA = HeartbeatResponse_v1.SCHEMA


class HeartbeatRequest_v3(RequestStruct):  # noqa: N801
    """A heartbeat that says which instance it is from."""

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
    """A heartbeat, with the name of its instance where the broker understands that."""

    API_KEY = 12

    def __init__(self, heartbeat: HeartbeatRequest, instance: str) -> None:
        self._said = (heartbeat._group, heartbeat._generation_id, heartbeat._member_id)  # noqa: SLF001
        self._instance = instance

    def build(self, request_struct_class: type[AnyHeartbeat]) -> AnyHeartbeat:
        """The heartbeat in a version that the broker knows."""
        if request_struct_class is HeartbeatRequest_v3:
            return request_struct_class(*self._said, self._instance)
        return request_struct_class(*self._said)


class FencedError(KafkaError):
    """Another process has joined the group under the same name."""


def heed_fencing(consumer: AIOKafkaConsumer, fenced: Callable[[str], None]) -> None:
    """Have a consumer with a name tell when another one has taken its place; one without a name is left as it is.

    Args:
        consumer: Not started yet.
        fenced: Told the name.
    """
    instance: str | None = consumer._group_instance_id  # noqa: SLF001 - has no public way
    if instance is None:
        return
    client: Any = consumer._client  # noqa: SLF001 - likewise
    send = client.send

    async def heeding(node: int, request: Any, **options: Any) -> Any:
        beats = isinstance(request, HeartbeatRequest)
        response = await send(node, NamedHeartbeatRequest(request, instance) if beats else request, **options)
        if beats or isinstance(request, JoinGroupRequest | SyncGroupRequest):
            if response.error_code != FENCED:
                return response
            fenced(instance)
            if beats:
                await asyncio.Event().wait()  # to the end of the process: no heartbeat would be heard
            raise FencedError(f"{instance} is fenced")
        return response

    client.send = heeding
