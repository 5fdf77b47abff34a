"""What a model server's refusal means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import PoiseError, RetryableError, TerminalError
from services.inference.refusals import ContextTooLongError, refusal, seconds_of

AT = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def refused(status: int, answered: object) -> PoiseError:
    return refusal(status, json.dumps(answered).encode(), name="default")


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 529])
def test_what_passes_is_worth_another_try(status: int) -> None:
    assert isinstance(refused(status, {}), RetryableError)


@pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 404, 405, 413, 422, 451])
def test_what_stays_is_not(status: int) -> None:
    assert type(refused(status, {"error": {"message": "no"}})) is TerminalError


def test_the_wait_that_was_asked_for_is_passed_on() -> None:
    error = refusal(429, b"slow down", name="default", retry_after=3.0)
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
def test_a_context_too_long_is_told_apart(answered: object) -> None:
    error = refused(400, answered)
    assert isinstance(error, ContextTooLongError)
    assert error.fault().type == "urn:poise:context-too-long"


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
def test_what_the_server_said_is_passed_on_in_one_short_line(answered: bytes, said: str) -> None:
    assert str(refusal(404, answered, name="default")) == f"backend default answered 404: {said}"


@given(st.integers(min_value=100, max_value=999), st.binary(max_size=2_000))
def test_no_refusal_breaks_the_reader(status: int, answered: bytes) -> None:
    error = refusal(status, answered, name="default")
    assert isinstance(error, RetryableError | TerminalError)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, AT) == seconds
