"""Which errors a loop retries; every other error ends the process."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownError,
)

from poise.errors import (
    DeadlineExceededError,
    FaultError,
    MissingTopicError,
    NotAcknowledgedError,
    RateLimitedError,
    RetryableError,
    SetupError,
    TerminalError,
    UnavailableError,
)
from poise.kafka import admin, consumer
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.consumer import ConcurrentConsumer
from poise.kafka.log_stream import LogTruncatedError
from poise.kafka.record import Record
from poise.kafka.retriable import is_retriable
from poise.settings import MeshSettings


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("x"),
        LogTruncatedError("x"),
        DeadlineExceededError("x"),
        NotAcknowledgedError("x"),
        RetryableError("x"),
        RateLimitedError("x"),
        MissingTopicError("x"),
        TimeoutError(),
        KafkaConnectionError(),
        NotLeaderForPartitionError(),
        KafkaTimeoutError(),
        UnknownError(),
    ],
)
def test_errors_that_are_retried(error: Exception) -> None:
    assert is_retriable(error)


@pytest.mark.parametrize(
    "error",
    [
        SetupError("x"),
        TerminalError("x"),
        FaultError(UnavailableError("x").fault()),
        KafkaError(),
        TopicAuthorizationFailedError(),
        GroupAuthorizationFailedError(),
        OSError("x"),
        ValueError("x"),
        AssertionError(),
    ],
)
def test_errors_that_end_the_process(error: Exception) -> None:
    assert not is_retriable(error)


class FailingPolls:
    """A consumer whose first poll fails, and whose second poll ends the worker's polling."""

    def __init__(self, error: Exception) -> None:
        self._errors = [error]
        self.polls = 0
        self.worker = ConcurrentConsumer(self._handle, ordered=False)
        self._fetcher = SimpleNamespace(error_future=SimpleNamespace(done=lambda: False))

    async def run(self) -> None:
        polled: Any = self
        await self.worker.run(polled)

    async def _handle(self, record: Record) -> None:
        raise AssertionError(record)

    def paused(self) -> frozenset[Any]:
        return frozenset()

    assignment = paused

    async def getmany(self, *_: object, **__: object) -> dict[Any, Any]:
        self.polls += 1
        if self._errors:
            raise self._errors.pop()
        await self.worker.drain()
        return {}


@pytest.mark.parametrize("error", [KafkaTimeoutError(), UnknownError(), KafkaConnectionError()])
async def test_a_worker_polls_again_after_a_retriable_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "RETRY_BACKOFF", 0.0)
    polled = FailingPolls(error)
    await polled.run()
    assert polled.polls == 2
    assert polled.worker.component.failure is None


async def test_a_worker_ends_with_any_other_error_of_a_poll() -> None:
    error = TopicAuthorizationFailedError()
    polled = FailingPolls(error)
    await polled.run()
    assert polled.polls == 1
    assert polled.worker.component.failure is error


@pytest.mark.parametrize("error", [KafkaTimeoutError(), UnknownError(), KafkaConnectionError()])
async def test_an_administrative_request_is_sent_again_after_a_retriable_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "_RETRY_BACKOFF", 0.0)
    errors = [error]

    async def request() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    assert await KafkaAdmin(Connection.of(MeshSettings()))._request(request) == "answer"
