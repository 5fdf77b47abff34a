"""Which errors a loop retries: a process ends with every other one."""

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
from poise.kafka.log_stream import LogTruncatedError
from poise.kafka.retriable import is_retriable


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
