"""OpenAI's chat completions format: request bodies, responses and stream chunks."""

from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from poise.contracts import Completion, Generate, Usage
from poise.contracts.generate import MAX_TOKEN_COUNT
from poise.contracts.json_bounds import check_value_count
from poise.contracts.message import strip_bom
from poise_services.inference.provider_errors import BackendFailedError, ContentFilteredError, error_for_response
from poise_services.inference.settings import Backend

STREAM_DONE: Final = b"[DONE]"
"""The data of a stream's last event."""
_MAX_STATUS: Final = 599
MAX_QUOTED_CHARS = 200
"""Characters of an unreadable response that an error message quotes."""


class _ResponseMessage(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _ResponseMessage
    finish_reason: str | None = None


class _UsageCounts(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def usage(self) -> Usage:
        """Return the usage; an impossible count becomes 0."""
        return Usage(
            prompt_tokens=_valid_count(self.prompt_tokens), completion_tokens=_valid_count(self.completion_tokens)
        )


class _ChunkDelta(BaseModel):
    content: str | None = None


class _ChunkChoice(BaseModel):
    delta: _ChunkDelta = _ChunkDelta()
    finish_reason: str | None = None


class _CompletionChunk(BaseModel):
    choices: list[_ChunkChoice] = []
    model: str | None = None
    usage: _UsageCounts | None = None
    error: Any = None


class _ChatCompletion(BaseModel):
    choices: list[_Choice]
    model: str | None = None
    usage: _UsageCounts | None = None


def _valid_count(count: int | None) -> int:
    return count if count is not None and 0 <= count <= MAX_TOKEN_COUNT else 0


def request_body(request: Generate, backend: Backend, *, stream: bool = False) -> dict[str, Any]:
    """Return the request body.

    Args:
        request: The chat.
        backend: The backend's settings.
        stream: Whether to request a stream.
    """
    body: dict[str, Any] = {
        "model": backend.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        backend.max_tokens_name: request.max_tokens,
        "temperature": request.temperature,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def parse_completion(body: bytes, *, name: str, backend: Backend) -> Completion:
    """Parse the completion of a response with status 200.

    An empty text is a valid completion; the caller decides what to do with it.

    Args:
        body: The response body.
        name: The backend's name.
        backend: Its settings.

    Raises:
        BackendFailedError: The response has no completion.
        ContentFilteredError: The provider's content filter removed or truncated it.
    """
    try:
        check_value_count(body, "reply")
        response = _ChatCompletion.model_validate_json(strip_bom(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise _no_completion(name, f"{where}: {first['msg']}", body) from error
    if not response.choices:
        raise _no_completion(name, "choices: is empty", body)
    choice = response.choices[0]
    _check_not_filtered(choice.finish_reason, name)
    text = choice.message.content
    if text is None:
        raise _no_completion(name, "choices.0.message.content: is missing", body)
    counts = response.usage or _UsageCounts()
    return Completion(
        text=text,
        model=response.model or backend.model,
        backend=name,
        finish_reason=choice.finish_reason or "unknown",
        usage=counts.usage(),
    )


class CompletionAssembler:
    """Assembles a completion from stream chunks.

    Args:
        name: The backend's name.
        backend: Its settings.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self._name = name
        self._model = backend.model
        self._texts: list[str] = []
        self._usage_counts = _UsageCounts()
        self._finish_reason: str | None = None
        self.done = False
        """Whether `[DONE]` was received."""

    def add_event(self, data: bytes) -> str:
        """Add the data of one event, and return its text.

        Raises:
            PoiseError: The event is an error, or malformed.
        """
        self.done = self.done or data.strip() == STREAM_DONE
        if self.done:
            return ""
        try:
            check_value_count(data, "chunk")
            chunk = _CompletionChunk.model_validate_json(data)
        except ValidationError as error:
            raise _no_completion(self._name, "a chunk of it cannot be read", data) from error
        if chunk.error is not None:
            raise error_for_response(_status_of(chunk.error), data, name=self._name)
        self._model = chunk.model or self._model
        self._usage_counts = chunk.usage or self._usage_counts
        text = ""
        for choice in chunk.choices[:1]:
            text = choice.delta.content or ""
            self._texts.append(text)
            self._finish_reason = choice.finish_reason or self._finish_reason
        return text

    def completion(self) -> Completion:
        """Return the completion at the end of the stream.

        Raises:
            BackendFailedError: The stream was cut off.
            ContentFilteredError: The provider's content filter removed or truncated it.
        """
        _check_not_filtered(self._finish_reason, self._name)
        if self._finish_reason is None and not (self.done and self._texts):
            reason = "it was cut off" if self._texts else "no choices in it"
            raise _no_completion(self._name, reason, "".join(self._texts).encode())
        return Completion(
            text="".join(self._texts),
            model=self._model,
            backend=self._name,
            finish_reason=self._finish_reason or "unknown",
            usage=self._usage_counts.usage(),
        )


def _check_not_filtered(finish_reason: str | None, name: str) -> None:
    """Raise if a content filter removed or truncated the completion."""
    if finish_reason == "content_filter":
        raise ContentFilteredError(f"backend {name} answered 200: its content filter withheld the completion")


def _status_of(error: object) -> int:
    """Return the HTTP status of an error inside a stream: its code if that is an error status, else 500."""
    code = error.get("code") if isinstance(error, dict) else None
    valid = isinstance(code, int) and HTTPStatus.BAD_REQUEST <= code <= _MAX_STATUS
    return code if valid and isinstance(code, int) else HTTPStatus.INTERNAL_SERVER_ERROR


def _no_completion(name: str, reason: str, body: bytes) -> BackendFailedError:
    quoted = body[: 4 * MAX_QUOTED_CHARS].decode(errors="replace")[:MAX_QUOTED_CHARS]
    return BackendFailedError(f"backend {name} answered 200 without a completion in it ({reason}): {quoted!r}")
