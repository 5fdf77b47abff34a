"""Documents: what the corpus says, and the passages that are made of it."""

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from poise.contracts.bounds import Int64, UnixSeconds
from poise.contracts.field_types import NOT_BLANK
from poise.contracts.message import Message

MAX_DOCUMENT_CHARS = 800_000
"""Fits Kafka's default message size of 1 MiB for text that is mostly ASCII."""

MAX_DOCUMENT_BYTES = 1_000_000
"""As it is written; with its key and headers it fits Kafka's default of 1 MiB."""

DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""What a document is known by: the record's key. The same id again replaces it."""


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DOCUMENT_CHARS, pattern=NOT_BLANK)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
"""What a reader knows a document by: a title, a path or an address."""
Format = Literal["text", "markdown"]


class Document(Message):
    """A document; its id is the record's key. A null value deletes it, an empty text is invalid."""

    kind: ClassVar[str] = "document/1"

    text: Text
    source: Source
    format: Format = "text"


class Deletion(Message):
    """What a null value in a compacted topic is read as: the thing named by the key is gone."""

    kind: ClassVar[str] = "deletion/1"


class Part(Message):
    """One part of a document with its vector: a record of `poise.passages`, key `<document>#<part>`."""

    kind: ClassVar[str] = "part/1"

    document: str
    part: Int64
    source: str
    heading: str | None = None
    """The titles it stands under, outermost first, joined by ` › `; absent where there are none."""
    text: str
    vector: str
    """Little-endian float32, base64; of unit length."""
    model: str
    """The embedding model's id: vectors of different models are not comparable."""
    published: UnixSeconds
    """When the document was published, unix seconds."""


class Manifest(Message):
    """Says that a version of a document is complete: the last record of it, key `<document>#manifest`."""

    kind: ClassVar[str] = "manifest/1"

    document: str
    parts: Int64
    """How many parts this version has; 0 = the document was deleted."""
    published: UnixSeconds
    absent: bool | None = None
    """It was deleted, and there was none: this is forgotten after a while, with a null value under the same key."""


class Moved(Message):
    """Says that a record of `poise.documents` was in another partition than its key's, and was copied to the right one.

    A record of `poise.passages`, key `<document>#moved`, in the partition of that number; the header
    `poise-doc-version` has the offset of the record that was copied.
    """

    kind: ClassVar[str] = "moved/1"

    document: str
    partition: Int64
    """The right one, where the copy is."""
    version: Int64
    """The offset of the copy, which is the version of the document that it makes."""
    published: UnixSeconds
    """When it was written, unix seconds: it counts only if nothing that was written later is seen."""
    deletion: bool | None = None
    """It was a deletion: where there was no such document this is forgotten after a while, with a null value under the
    same key."""


class DocumentVersion(Message):
    """What the last version of a document says: a record of `poise.versions`, key = document id.

    It is written before anything of that version can be found, with the version in the header `poise-doc-version`. So
    whoever was answered from a version can learn whether there is another one, and whether it says anything else.
    """

    kind: ClassVar[str] = "document-version/1"

    documents: str
    """Kafka's id of the `poise.documents` that the version is an offset of."""
    digest: str | None = None
    """Of what the version says, SHA-256 in hexadecimal; absent = the document was deleted."""
