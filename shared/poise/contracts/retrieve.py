"""Retrieve: find the passages that bear on a query."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from poise.contracts.bounds import Elapsed, Finite, Int64
from poise.contracts.document import MAX_DOCUMENT_CHARS
from poise.contracts.message import Message, Request


class Passage(Message):
    """A part of a document, as it was found."""

    kind: ClassVar[str] = "passage-found/1"

    id: str
    """`<document>#<part>`."""
    source: str
    """What a reader knows the document by."""
    heading: str | None = None
    """The titles it stands under, outermost first, joined by ` › `; absent where there are none."""
    text: str
    score: Finite
    """Fused rank score: higher is better, comparable within one reply only."""
    age: Elapsed
    """Seconds since the document was published."""
    version: Int64 | None = None
    """The version of the document: its offset in `poise.documents`."""


class Passages(Message):
    """What was found, best first."""

    kind: ClassVar[str] = "passages/1"

    passages: tuple[Passage, ...]
    epoch: str
    """How far into `poise.documents` the index that was searched had come (opaque)."""
    mode: Literal["hybrid", "lexical", "none"] = "hybrid"
    reason: str | None = None
    """Why it is not by meaning and words both, or not all that was found; absent when it is."""


class Retrieve(Request[Passages]):
    """A query for passages. The header `poise-min-epoch` makes it wait for an index that has come that far."""

    kind: ClassVar[str] = "retrieve/1"
    reply: ClassVar[type[Passages]] = Passages

    query: Annotated[str, Field(min_length=1, max_length=MAX_DOCUMENT_CHARS)]
    limit: Annotated[int, Field(ge=1, le=100)] = 6
