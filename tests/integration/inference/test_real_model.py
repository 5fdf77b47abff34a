"""A real model behind a real HTTP server."""

import httpx2
import pytest

from poise.contracts import ChatMessage, Generate
from poise_services.inference.backends import Backends
from poise_services.inference.provider_errors import ContextTooLongError
from poise_services.inference.settings import InferenceSettings

PATHS = [
    "/",
    "/index.html",
    "/health",
    "/v1/health",
    "/models",
    "/v1/models",
    "/props",
    "/slots",
    "/metrics",
    "/api/tags",
    "/v1/chat/completions",
    "/poise/health",
    "/poise/v1/models",
    "/poise/v1/chat/completions",
    "/poise/completion",
]
QUESTION = "The sky is blue. Using the text above, answer in one word: What colour is the sky?"


def generate_request(content: str, max_tokens: int = 12) -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=content),), max_tokens=max_tokens)


def settings(model: dict[str, str]) -> InferenceSettings:
    return InferenceSettings.model_validate({"backends": {"default": {**model, "model": "smollm2"}}})


async def test_it_completes_a_chat(model: dict[str, str]) -> None:
    async with Backends(settings(model)) as backends:
        completion = await backends.get("default").complete(generate_request(QUESTION), remaining=60)
    assert "sky" in completion.text.lower()
    assert completion.model == "smollm2-135m-instruct"
    assert (completion.backend, completion.finish_reason) == ("default", "stop")
    assert completion.usage.prompt_tokens > 20
    assert completion.usage.completion_tokens >= 2


async def test_it_stops_at_the_limit_of_tokens(model: dict[str, str]) -> None:
    async with Backends(settings(model)) as backends:
        completion = await backends.get("default").complete(generate_request(QUESTION, max_tokens=3), remaining=60)
    assert completion.finish_reason == "length"
    assert completion.usage.completion_tokens == 3


async def test_it_rejects_a_chat_longer_than_its_context(model: dict[str, str]) -> None:
    async with Backends(settings(model)) as backends:
        with pytest.raises(ContextTooLongError, match="answered 400"):
            await backends.get("default").complete(generate_request("word " * 5_000), remaining=60)


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for path in PATHS for method in ("GET", "POST", "OPTIONS")],
)
async def test_a_web_page_cannot_use_it(model: dict[str, str], method: str, path: str) -> None:
    """Try another origin, and the attacker's own host name that resolves to this machine (DNS rebinding)."""
    base = model["url"].removesuffix("/poise/v1")
    chat = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}'
    headers = {"origin": "http://evil.example", "host": "evil.example", "content-type": "text/plain"}
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as client:
        response = await client.request(method, path, headers=headers | preflight, content=chat)
    granted = [value for name, value in response.headers.items() if name.startswith("access-control-allow-")]
    assert set(granted) <= {"", "false"}
    if method == "OPTIONS":
        assert not response.content
    else:
        assert response.status_code in {401, 404}
        assert set(response.json()) == {"error"}
