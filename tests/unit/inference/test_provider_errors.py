"""The errors that represent a model server's error responses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import PoiseError, RateLimitedError, RetryableError, TerminalError
from poise_services.inference.provider_errors import ContentFilteredError, ContextTooLongError, error_for_response


def refused(status: int, answered: object) -> PoiseError:
    return error_for_response(status, json.dumps(answered).encode(), name="default")


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 529])
def test_transient_errors_are_retryable(status: int) -> None:
    assert isinstance(refused(status, {}), RetryableError)


@pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 404, 405, 413, 422, 451])
def test_permanent_errors_are_terminal(status: int) -> None:
    assert type(refused(status, {"error": {"message": "no"}})) is TerminalError


def test_retry_after_is_passed_on() -> None:
    error = error_for_response(429, b"slow down", name="default", retry_after=3.0)
    assert isinstance(error, RetryableError)
    assert error.retry_after == 3.0
    assert str(error) == "backend default answered 429: slow down"


@pytest.mark.parametrize(
    "answered",
    [
        {"error": {"message": "too long", "code": "context_length_exceeded"}},
        {"error": {"code": 400, "message": "request exceeds", "type": "exceed_context_size_error"}},
        {"object": "error", "message": "This model's maximum context length is 2048 tokens.", "code": 400},
        {"detail": "the prompt is larger than the context window"},
    ],
    ids=["openai", "llama.cpp", "vllm", "words"],
)
def test_a_context_overflow_is_recognized(answered: object) -> None:
    error = refused(400, answered)
    assert isinstance(error, ContextTooLongError)
    assert error.fault().type == "urn:poise:context-too-long"


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        (429, {"error": {"message": "slow", "type": "tokens", "code": "rate_limit_exceeded"}}),
        (429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}),
        (400, {"type": "error", "error": {"type": "rate_limit_error", "message": "Rate limit exceeded."}}),
        (500, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}),
        (429, {}),
    ],
    ids=["openai", "mistral", "anthropic", "in a stream", "no body"],
)
def test_a_rate_limit_is_recognized(status: int, answered: object) -> None:
    error = error_for_response(status, json.dumps(answered).encode(), name="default", retry_after=3.0)
    assert isinstance(error, RateLimitedError)
    assert error.max_wait is None
    fault = error.fault()
    assert (fault.type, fault.status, fault.retryable, fault.retry_after) == ("urn:poise:rate-limited", 429, True, 3.0)


@pytest.mark.parametrize("code", [None, "insufficient_quota"])
def test_an_exhausted_quota_is_not_retried(code: str | None) -> None:
    error = refused(429, {"error": {"message": "quota", "type": "insufficient_quota", "code": code}})
    assert isinstance(error, RateLimitedError)
    assert error.max_wait == 0


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        (400, {"error": {"message": "filtered", "type": None, "param": "prompt", "code": "content_filter"}}),
        (400, {"error": {"message": "x", "code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, {"error": {"message": "rejected", "type": "image", "code": "content_policy_violation"}}),
        (500, {"error": {"message": "filtered", "code": "content_filter"}}),
    ],
    ids=["azure", "azure's inner", "openai", "in a stream"],
)
def test_a_content_filter_is_recognized(status: int, answered: object) -> None:
    error = refused(status, answered)
    assert isinstance(error, ContentFilteredError)
    assert error.fault().type == "urn:poise:content-filtered"


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (b'{"error": {"message": "no such\\n model"}}', "no such model"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"detail": "no such model"}', "no such model"),
        (b"no such model", "no such model"),
        (b'{"error": {"message": null, "code": {}}}', "{'message': None, 'code': {}}"),
        (b"", "without a reason"),
        (b"x" * 10_000, "x" * 299 + "…"),
    ],
)
def test_the_servers_message_is_one_short_line(answered: bytes, said: str) -> None:
    assert str(error_for_response(404, answered, name="default")) == f"backend default answered 404: {said}"


@given(st.integers(min_value=100, max_value=999), st.binary(max_size=2_000))
def test_no_error_response_breaks_the_parser(status: int, answered: bytes) -> None:
    error = error_for_response(status, answered, name="default")
    assert isinstance(error, RetryableError | TerminalError)
    assert len(str(error)) < 400
