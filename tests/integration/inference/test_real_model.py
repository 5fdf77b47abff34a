"""A real model behind a real HTTP server."""

import pytest

from poise.contracts import ChatMessage, Generate
from services.inference.backends import Backends
from services.inference.refusals import ContextTooLongError
from services.inference.settings import InferenceSettings

QUESTION = "The sky is blue. Using the text above, answer in one word: What colour is the sky?"


def asked(content: str, max_tokens: int = 12) -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=content),), max_tokens=max_tokens)


def settings(url: str) -> InferenceSettings:
    return InferenceSettings.model_validate({"backends": {"default": {"url": url, "model": "smollm2"}}})


async def test_it_completes_a_chat(model_url: str) -> None:
    async with Backends(settings(model_url)) as backends:
        completion = await backends.named("default").complete(asked(QUESTION), remaining=60)
    assert "sky" in completion.text.lower()
    assert completion.model == "smollm2-135m-instruct"
    assert (completion.backend, completion.finish_reason) == ("default", "stop")
    assert completion.usage.prompt_tokens > 20
    assert completion.usage.completion_tokens >= 2


async def test_it_stops_at_the_limit_of_tokens(model_url: str) -> None:
    async with Backends(settings(model_url)) as backends:
        completion = await backends.named("default").complete(asked(QUESTION, max_tokens=3), remaining=60)
    assert completion.finish_reason == "length"
    assert completion.usage.completion_tokens == 3


async def test_it_refuses_a_chat_that_is_longer_than_its_context(model_url: str) -> None:
    async with Backends(settings(model_url)) as backends:
        with pytest.raises(ContextTooLongError, match="answered 400"):
            await backends.named("default").complete(asked("word " * 5_000), remaining=60)
