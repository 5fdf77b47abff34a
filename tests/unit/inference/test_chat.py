"""Chats in OpenAI's format: encoding requests and parsing responses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import ChatMessage, Completion, Generate, Usage
from poise.errors import RetryableError
from poise_services.inference.chat import parse_completion, request_body
from poise_services.inference.provider_errors import ContentFilteredError
from poise_services.inference.settings import Backend

BACKEND = Backend.model_validate({"url": "http://127.0.0.1:1", "model": "small"})
ASKED = Generate(messages=(ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Why?")))


def read(answered: object) -> Completion:
    return parse_completion(json.dumps(answered).encode(), name="default", backend=BACKEND)


def test_the_request_body() -> None:
    assert request_body(ASKED.model_copy(update={"stop": ("\n",), "max_tokens": 9}), BACKEND) == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ["\n"],
    }


def test_the_token_limit_has_the_servers_name() -> None:
    body = request_body(ASKED, BACKEND.model_copy(update={"max_tokens_name": "max_completion_tokens"}))
    assert body["max_completion_tokens"] == 128
    assert "max_tokens" not in body
    assert "stop" not in body


def test_a_completion_is_parsed() -> None:
    answered = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Because."}, "finish_reason": "stop"}],
        "model": "small-2",
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        "object": "chat.completion",
    }
    assert read(answered) == Completion(
        text="Because.",
        model="small-2",
        backend="default",
        finish_reason="stop",
        usage=Usage(prompt_tokens=7, completion_tokens=2),
    )


def test_missing_fields_have_defaults() -> None:
    completion = read({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": None}})
    assert (completion.model, completion.finish_reason, completion.usage) == ("small", "unknown", Usage())


def test_an_empty_text_is_a_completion() -> None:
    assert read({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}).text == ""


@pytest.mark.parametrize("content", [None, "", "I was about to"])
def test_a_filtered_answer_is_rejected_even_with_partial_text(content: str | None) -> None:
    with pytest.raises(ContentFilteredError, match="its content filter withheld"):
        read({"choices": [{"message": {"content": content}, "finish_reason": "content_filter"}]})


@pytest.mark.parametrize(
    ("answered", "why"),
    [
        (b"", "body"),
        (b"null", "body"),
        (b"<html>ok</html>", "body"),
        (b"\xff\xfe", "body"),
        (b"{}", "choices"),
        (b'{"choices": []}', "choices: is empty"),
        (b'{"choices": null}', "choices"),
        (b'{"choices": [{}]}', "choices.0.message"),
        (b'{"choices": [{"message": {}, "finish_reason": "stop"}]}', "choices.0.message.content: is missing"),
        (b'{"choices": [{"message": {"content": 7}}]}', "choices.0.message.content"),
    ],
)
def test_an_empty_200_names_what_is_missing(answered: bytes, why: str) -> None:
    with pytest.raises(RetryableError, match="answered 200 without a completion in it") as caught:
        parse_completion(answered, name="default", backend=BACKEND)
    assert why in str(caught.value)


@given(st.binary(max_size=2_000))
def test_no_response_breaks_the_parser(answered: bytes) -> None:
    try:
        parse_completion(answered, name="default", backend=BACKEND)
    except RetryableError as error:
        assert len(str(error)) < 1_500  # noqa: PT017 - most responses raise, some may not
