"""Ask: a question from outside, and the answer to it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from poise.contracts.message import Message, Request

MAX_QUESTION_CHARS = 8_000

Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARS)]

Rung = Literal["primary", "variant", "stale", "extractive", "canned"]
"""The step of the ladder an answer came from, best first."""


class Citation(Message):
    """A place in the corpus that an answer rests on."""

    kind: ClassVar[str] = "citation/1"

    source: str
    """What a reader knows the document by: a title, a path or an address."""
    passage: str
    """The passage's id, `<document>#<part>`."""
    quote: str
    """The words of the passage that bear the answer."""


class Answer(Message):
    """What the mesh answers, and how it came to it."""

    kind: ClassVar[str] = "answer/1"

    run_id: str
    text: str
    citations: tuple[Citation, ...] = ()
    rung: Rung
    reason: str | None = None
    """Why the answer is not from the first rung; absent when it is."""
    variant: str | None = None
    """The variant whose words these are; absent when no model wrote them."""
    epoch: str | None = None
    """How far into the documents the index had come (opaque); absent when nothing was retrieved."""
    timings: Mapping[str, float] = Field(default_factory=dict)
    """Milliseconds by step, and `total`."""


class Ask(Request[Answer]):
    """A question. The smallest ask is `{"question": "…"}`."""

    kind: ClassVar[str] = "ask/1"
    reply: ClassVar[type[Answer]] = Answer

    question: Question
    conversation: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Asks of one conversation are answered in order."
    )
