"""Generate: have a model write."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from poise.contracts.bounds import Quantity
from poise.contracts.message import Message, Request

MAX_TOKENS: Final = 10**9
"""More than any model reads or writes: a backend that counts more has miscounted."""

Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class ChatMessage(Message):
    """One turn of a chat, in OpenAI's form."""

    kind: ClassVar[str] = "chat-message/1"

    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Message):
    """Tokens, as the backend counted them."""

    kind: ClassVar[str] = "usage/1"

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0


class Completion(Message):
    """What the model wrote."""

    kind: ClassVar[str] = "completion/1"

    text: str
    model: str
    """The model that the backend says it used."""
    backend: str
    """The name of the backend in the inference tier's settings."""
    finish_reason: str
    """OpenAI's word: `stop`, `length`, `content_filter`, …"""
    usage: Usage = Usage()


class Generate(Request[Completion]):
    """A chat to be completed by a named backend."""

    kind: ClassVar[str] = "generate/1"
    reply: ClassVar[type[Completion]] = Completion

    # A list is refused at its first wrong item: a hostile one of 1 MB has half a million, whose errors take 900 MB.
    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1, fail_fast=True)]
    backend: str = "default"
    max_tokens: Annotated[Tokens, Field(ge=1)] = 128
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    stop: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    patience: Quantity | None = None
    """Seconds that may be waited in all for a rate limit of the backend's to pass; None = as long as the deadline
    allows, 0 = the fault comes at once, for a caller that can turn elsewhere."""
