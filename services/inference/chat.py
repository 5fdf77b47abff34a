"""OpenAI's form of a chat: the body that a model server is sent, and the completion read from what it answers."""

from typing import Any

from pydantic import BaseModel, ValidationError

from poise.contracts import Completion, Generate, Usage
from poise.errors import RetryableError
from services.inference.settings import Backend

QUOTED_CHARS = 200
"""How much of an unreadable answer an error quotes."""


class _Turn(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Turn
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    choices: list[_Choice]
    model: str | None = None
    usage: _Tokens | None = None


def body_of(request: Generate, backend: Backend) -> dict[str, Any]:
    """The body to send for a request."""
    body: dict[str, Any] = {
        "model": backend.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
        backend.max_tokens_name: request.max_tokens,
        "temperature": request.temperature,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    return body


def completion_of(answered: bytes, *, name: str, backend: Backend) -> Completion:
    """Read the completion out of an answer with status 200.

    A text that is empty is a completion: the model had nothing to say, and whoever asked must judge that.

    Args:
        answered: The answer's body.
        name: The backend's name.
        backend: Its settings.

    Raises:
        RetryableError: There is no completion in it.
    """
    try:
        reply = _Reply.model_validate_json(answered)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise _empty(name, f"{where}: {first['msg']}", answered) from error
    if not reply.choices:
        raise _empty(name, "choices: is empty", answered)
    choice = reply.choices[0]
    text = choice.message.content
    if text is None:
        if choice.finish_reason != "content_filter":
            raise _empty(name, "choices.0.message.content: is missing", answered)
        text = ""
    tokens = reply.usage or _Tokens()
    return Completion(
        text=text,
        model=reply.model or backend.model,
        backend=name,
        finish_reason=choice.finish_reason or "unknown",
        usage=Usage(prompt_tokens=tokens.prompt_tokens or 0, completion_tokens=tokens.completion_tokens or 0),
    )


def _empty(name: str, why: str, answered: bytes) -> RetryableError:
    quoted = answered[: 4 * QUOTED_CHARS].decode(errors="replace")[:QUOTED_CHARS]
    return RetryableError(f"backend {name} answered 200 without a completion in it ({why}): {quoted!r}")
