"""Kafka's Metadata request, version 12, which returns topic ids, and which aiokafka 0.14 does not have.

Its format is in Kafka's sources, `MetadataRequest.json` and `MetadataResponse.json`.
"""

from collections.abc import Collection, Iterator
from io import BytesIO
from typing import ClassVar
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from poise.kafka.topic_identities import TopicMetadata

_NO_LEADER = -1


class _Uuid(AbstractType[UUID]):
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Response(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "found",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )

    def topics(self) -> Iterator[tuple[str, TopicMetadata]]:
        """Yield name and metadata of each topic that exists and is visible to this client."""
        for error_code, name, topic_id, _, partitions, *_ in self.get_item("found"):
            if not error_code:
                yield (
                    name,
                    TopicMetadata(
                        id=str(topic_id),
                        partitions=len(partitions),
                        leaderless=frozenset(number for _, number, leader, *_ in partitions if leader == _NO_LEADER),
                    ),
                )


class _Request(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Response
    FLEXIBLE_VERSION: ClassVar[bool] = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicMetadataRequest(Request[_Request]):
    """A request for the metadata of topics, by name."""

    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Request]) -> _Request:
        """Return the request as it is sent."""
        return request_struct_class([(UUID(int=0), topic, {}) for topic in self._topics], False, False, {})
