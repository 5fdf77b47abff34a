"""Ask: a client's question, and its answer."""

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
"""The rung of the ladder that produced an answer, best first."""

Search = Literal["hybrid", "lexical", "cached", "none"]
"""The rung of retrieval's own ladder: dense and sparse search, sparse search only, cached passages, nothing."""

Caching = Literal["no-cache", "no-store"]
"""As in HTTP (RFC 9111): `no-cache` = compute a new answer and cache it; `no-store` = do not use the cache."""

NAME_PATTERN = r"^[A-Za-z0-9._-]{1,80}$"
"""The pattern of the names of workflows, variants and backends."""
LANGUAGE_TAG = r"^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$"


class Citation(Message):
    """A passage of the corpus that supports an answer."""

    kind: ClassVar[str] = "citation/1"

    source: str
    """The document's title, path or URL, for readers."""
    passage: str
    """The id of the passage, `<document>#<part>`."""
    quote: str
    """The text of the passage that supports the answer."""


class Answer(Message):
    """An answer, and how it was produced."""

    kind: ClassVar[str] = "answer/1"

    run_id: str
    text: str
    citations: tuple[Citation, ...] = ()
    rung: Rung
    reason: str | None = None
    """Why the answer is not from the first rung; absent if it is."""
    variant: str | None = None
    """The variant that wrote the text; absent if no model wrote it."""
    epoch: str | None = None
    """How far the index had applied the documents (opaque); absent if nothing was retrieved."""
    retrieval: Search | None = None
    """How the passages were found; absent if there was no search."""
    degraded: tuple[str, ...] = ()
    """What was degraded while this answer was produced, and why, for people. The reason of the rung is `reason`."""
    cached: bool = False
    """Whether the answer was produced for another ask, an earlier or a concurrent one."""
    age: Quantity | None = None
    """Seconds since the answer was produced; absent if it was produced for this ask."""
    timings: Mapping[str, Elapsed] = Field(default_factory=dict)
    """Milliseconds by step, and `total`."""


class Ask(Request[Answer]):
    """A question. The minimal ask is `{"question": "…"}`."""

    kind: ClassVar[str] = "ask/1"
    reply: ClassVar[type[Answer]] = Answer

    question: Question
    conversation: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Asks of one conversation are answered in order."
    )
    workflow: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] | None = Field(
        default=None, description="The workflow that answers the ask; absent = `answer`."
    )
    language: Annotated[str, StringConstraints(max_length=35, pattern=LANGUAGE_TAG)] | None = Field(
        default=None, description="The reader's language (BCP 47), for text that is not quoted from the documents."
    )
    cache: Caching | None = Field(
        default=None,
        description="`no-cache`: compute a new answer and cache it; `no-store`: do not use the cache.",
    )
