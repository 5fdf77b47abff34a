"""Ask: a question from outside, and the answer to it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from poise.contracts.bounds import Elapsed, Quantity
from poise.contracts.field_types import NOT_BLANK
from poise.contracts.message import Message, Request

MAX_QUESTION_CHARS = 8_000

Question = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=NOT_BLANK),
    AfterValidator(str.strip),
]

Rung = Literal["primary", "variant", "stale", "extractive", "canned"]
"""The step of the ladder an answer came from, best first."""

Search = Literal["hybrid", "lexical", "cached", "none"]
"""The step of retrieval's own ladder: by meaning and words, by words alone, passages found earlier, nothing."""

Caching = Literal["no-cache", "no-store"]
"""HTTP's words (RFC 9111): `no-cache` = work it out anew, and keep it; `no-store` = neither look nor keep."""

NAME = r"^[A-Za-z0-9._-]{1,80}$"
"""What a workflow, a variant or a backend may be called."""
LANGUAGE_TAG = r"^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$"


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
    retrieval: Search | None = None
    """How its passages were found; absent where none were looked for."""
    degraded: tuple[str, ...] = ()
    """What did less than it should on the way to this answer, and why, in words; the rung's own reason is `reason`."""
    cached: bool = False
    """Whether it was worked out for an earlier ask, or for one at the same time."""
    age: Quantity | None = None
    """Seconds since it was worked out; absent when that was for this ask."""
    timings: Mapping[str, Elapsed] = Field(default_factory=dict)
    """Milliseconds by step, and `total`."""


class Ask(Request[Answer]):
    """A question. The smallest ask is `{"question": "…"}`."""

    kind: ClassVar[str] = "ask/1"
    reply: ClassVar[type[Answer]] = Answer

    question: Question
    conversation: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Asks of one conversation are answered in order."
    )
    workflow: Annotated[str, StringConstraints(pattern=NAME)] | None = Field(
        default=None, description="The workflow that answers it; absent = `answer`."
    )
    language: Annotated[str, StringConstraints(max_length=35, pattern=LANGUAGE_TAG)] | None = Field(
        default=None, description="The reader's language (BCP 47), for what is not the documents' own words."
    )
    cache: Caching | None = Field(
        default=None, description="`no-cache`: work it out anew, and keep it; `no-store`: neither look nor keep."
    )
