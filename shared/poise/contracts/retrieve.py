"""Retrieve: a search for the passages relevant to a query."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from poise.contracts.bounds import Elapsed, Finite, Int64
from poise.contracts.document import MAX_DOCUMENT_CHARS
from poise.contracts.message import Message, Request


class Passage(Message):
    """A part of a document, as a search result."""

    kind: ClassVar[str] = "passage-found/1"

    id: str
    """`<document>#<part>`."""
    source: str
    """The document's title, path or URL, for readers."""
    heading: str | None = None
    """The headings above the passage, outermost first, joined by ` › `; absent if there are none."""
    text: str
    score: Finite
    """Fused rank score: higher is better; comparable within one reply only."""
    age: Elapsed
    """Seconds since the document was published."""
    version: Int64 | None = None
    """The version of the document: its offset in `poise.documents`."""


class Passages(Message):
    """The passages found, best first."""

    kind: ClassVar[str] = "passages/1"

    passages: tuple[Passage, ...]
    epoch: str
    """How far the searched index had applied `poise.documents` (opaque)."""
    mode: Literal["hybrid", "lexical", "none"] = "hybrid"
    reason: str | None = None
    """Why the search was not hybrid, or why some passages are missing; absent otherwise."""


class Retrieve(Request[Passages]):
    """A query for passages. With the header `poise-min-epoch`, it waits until the index has reached that epoch."""

    kind: ClassVar[str] = "retrieve/1"
    reply: ClassVar[type[Passages]] = Passages

    query: Annotated[str, Field(min_length=1, max_length=MAX_DOCUMENT_CHARS)]
    limit: Annotated[int, Field(ge=1, le=100)] = 6
