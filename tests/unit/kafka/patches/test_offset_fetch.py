"""An offset fetch raises the error that stands for its whole response."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NotCoordinatorForGroupError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from poise.kafka.patches import offset_fetch


class ErrorCodeClient:
    """An AIOKafkaClient whose node answers every request with one error code."""

    def __init__(self, error_code: int) -> None:
        self.response = SimpleNamespace(error_code=error_code)

    async def send(self, _node: int, _request: Any, **_options: Any) -> Any:
        return self.response


FETCH = OffsetFetchRequest("group", [("topic", [0])])


def test_the_client_still_has_the_replaced_method() -> None:
    assert AIOKafkaClient.send.__code__.co_varnames[:3] == ("self", "node_id", "request")


async def test_an_error_is_raised() -> None:
    client = ErrorCodeClient(NotCoordinatorForGroupError.errno)
    offset_fetch.install(client)
    with pytest.raises(NotCoordinatorForGroupError, match="node 7 does not return the committed offsets"):
        await client.send(7, FETCH)


async def test_a_response_without_error_is_returned() -> None:
    client = ErrorCodeClient(0)
    offset_fetch.install(client)
    assert await client.send(7, FETCH) is client.response


async def test_other_requests_are_not_affected() -> None:
    client = ErrorCodeClient(NotCoordinatorForGroupError.errno)
    offset_fetch.install(client)
    assert await client.send(7, MetadataRequest([])) is client.response
