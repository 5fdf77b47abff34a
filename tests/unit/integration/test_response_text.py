"""The text of an API's response; an empty response is an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import PoiseError
from poise_services.integration.api_errors import ApiFailedError, ApiRefusedError, EmptyResponseError
from poise_services.integration.response_text import MAX_TEXT_CHARS, extract_text


def read(answered: bytes, pointer: str | None = None) -> str:
    return extract_text(answered, pointer, name="weather")


@pytest.mark.parametrize(
    "answered",
    [b"", b" \n\t ", b"[]", b"{}", b"null", b'""', b'"  "', b" [ ] ", b"[[], {}]", b'{"results": [], "error": null}',
     b"\xef\xbb\xbf", b"\xef\xbb\xbf{}", b"\x00"],
)  # fmt: skip
@pytest.mark.parametrize("pointer", [None, "", "/results"])
def test_an_empty_200_is_an_error(answered: bytes, pointer: str | None) -> None:
    with pytest.raises(EmptyResponseError, match="integration weather answered 200 with nothing") as caught:
        read(answered, pointer)
    fault = caught.value.fault()
    assert (fault.type, fault.status, fault.retryable) == ("urn:poise:integration-empty", 502, False)


@pytest.mark.parametrize(
    "pointer", ["/none", "/empty", "/list", "/list/0", "/list/-", "/list/01", "/deep/x", "/text/0"]
)
def test_a_pointer_that_finds_nothing_is_an_error(pointer: str) -> None:
    answered = json.dumps({"empty": " ", "list": [], "deep": {"x": {"y": None}}, "text": "rain"}).encode()
    with pytest.raises(EmptyResponseError, match=f"at {pointer}"):
        read(answered, pointer)


@pytest.mark.parametrize(
    ("answered", "pointer", "text"),
    [
        (b" It rains. \n", None, "It rains."),
        (b"0", None, "0"),
        (b"false", None, "false"),
        (b'{"a": 1}', None, '{"a": 1}'),
        (b'{"a": {"b": ["It rains."]}}', "/a/b/0", "It rains."),
        ('{"a": {"b": "größer"}}'.encode(), "/a", '{"b": "größer"}'),
        (b'{"a": 0}', "/a", "0"),
        (b"\xef\xbb\xbfIt rains.", None, "It rains."),
        (b"<p>It rains.</p>", None, "<p>It rains.</p>"),
        (b"It \xff rains.", None, "It � rains."),
        (b'{"a": "It \\ud800 rains."}', "/a", "It ? rains."),
        (b'{"a": ["It \\ud800 rains."]}', "/a", '["It ? rains."]'),
        (b"[" * 700 + b"1" + b"]" * 700, None, "[" * 700 + "1" + "]" * 700),
    ],
)
def test_the_addressed_part_is_returned(answered: bytes, pointer: str | None, text: str) -> None:
    assert read(answered, pointer) == text


@pytest.mark.parametrize("answered", [b"<html>", b"[" * 100_000, b"[" * 700 + b"1" + b"]" * 700, b'{"a": '])
def test_a_pointer_requires_json(answered: bytes) -> None:
    with pytest.raises(ApiFailedError, match="that is not JSON"):
        read(answered, "/a")


def test_a_text_too_large_for_a_reply_is_rejected() -> None:
    assert len(read(b"x" * MAX_TEXT_CHARS)) == MAX_TEXT_CHARS
    with pytest.raises(ApiRefusedError, match="pointer"):
        read(b"x" * (MAX_TEXT_CHARS + 1))


@given(st.binary(max_size=300), st.sampled_from([None, "", "/a", "/0"]))
def test_no_response_breaks_the_parser(answered: bytes, pointer: str | None) -> None:
    try:
        assert read(answered, pointer).strip()
    except PoiseError as error:
        assert len(str(error)) < 400  # noqa: PT017 - some raise, some do not
