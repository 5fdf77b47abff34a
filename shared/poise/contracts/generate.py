"""Generate: a chat completion by a model."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from poise.contracts.bounds import Quantity
from poise.contracts.message import Message, Request

MAX_TOKEN_COUNT: Final = 10**9
"""More than any model reads or writes; a higher count is an error of the backend."""

Tokens = Annotated[int, Field(ge=0, le=MAX_TOKEN_COUNT)]


class ChatMessage(Message):
    """One message of a chat, in OpenAI's format."""

    kind: ClassVar[str] = "chat-message/1"

    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Message):
    """The backend's token counts."""

    kind: ClassVar[str] = "usage/1"

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0


class Completion(Message):
    """The text that a model generated."""

    kind: ClassVar[str] = "completion/1"

    text: str
    model: str
    """The model that the backend reports."""
    backend: str
    """The name of the backend in the inference tier's settings."""
    finish_reason: str
    """OpenAI's finish reason: `stop`, `length`, `content_filter`, …"""
    usage: Usage = Usage()


class Generate(Request[Completion]):
    """A chat that a named backend completes."""

    kind: ClassVar[str] = "generate/1"
    reply: ClassVar[type[Completion]] = Completion

    # A list is refused at its first invalid item: a hostile list of 1 MB has half a million, whose errors take 900 MB.
    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1, fail_fast=True)]
    backend: str = "default"
    max_tokens: Annotated[Tokens, Field(ge=1)] = 128
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    stop: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    patience: Quantity | None = None
    """Maximum seconds to wait, in total, for the backend's rate limits. None = until the deadline; 0 = return the fault
    at once, for a caller with an alternative."""
