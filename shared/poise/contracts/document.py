"""Documents of the corpus, and the passages that they are split into."""

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from poise.contracts.bounds import Int64, UnixSeconds
from poise.contracts.field_types import NOT_BLANK
from poise.contracts.message import Message

MAX_DOCUMENT_CHARS = 800_000
"""Text that is mostly ASCII then fits Kafka's default message size of 1 MiB."""

MAX_DOCUMENT_BYTES = 1_000_000
"""Bytes of the encoded body; with key and headers, it fits Kafka's default message size of 1 MiB."""

DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""The id of a document: the record's key. A document with the same id replaces the previous one."""


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DOCUMENT_CHARS, pattern=NOT_BLANK)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
"""A document's title, path or URL, for readers."""
Format = Literal["text", "markdown"]


class Document(Message):
    """A document; its id is the record's key. A null value deletes it; an empty text is invalid."""

    kind: ClassVar[str] = "document/1"

    text: Text
    source: Source
    format: Format = "text"


class Deletion(Message):
    """The decoded form of a null value in a compacted topic: the key was deleted."""

    kind: ClassVar[str] = "deletion/1"


class PassageRecord(Message):
    """One passage of a document with its vector: a record of `poise.passages`, key `<document>#<part>`."""

    kind: ClassVar[str] = "part/1"

    document: str
    part: Int64
    """The passage's number in its document, from 0."""
    source: str
    heading: str | None = None
    """The headings above the passage, outermost first, joined by ` › `; absent if there are none."""
    text: str
    vector: str
    """A vector of unit length: little-endian float32, base64."""
    model: str
    """The id of the embedding model: vectors of different models are not comparable."""
    published: UnixSeconds
    """When the document was published, unix seconds."""


class Manifest(Message):
    """The last record of a document's version, which makes it complete: key `<document>#manifest`."""

    kind: ClassVar[str] = "manifest/1"

    document: str
    parts: Int64
    """The number of passages of this version; 0 = the document was deleted."""
    published: UnixSeconds
    absent: bool | None = None
    """A document was deleted that did not exist. This record is removed later, by a null value with the same key."""


class CopyNote(Message):
    """Notes that a record of `poise.documents` outside its key's partition was copied to the right one.

    A record of `poise.passages`, key `<document>#moved`, in the partition with the number of the copied record's; the
    header `poise-doc-version` has the offset of the copied record.
    """

    kind: ClassVar[str] = "moved/1"

    document: str
    partition: Int64
    """The partition of the copy: the right one."""
    version: Int64
    """The offset of the copy, which is the version of the document."""
    published: UnixSeconds
    """When the copied record was written, unix seconds; the copy counts only if no later record is known."""
    deletion: bool | None = None
    """Whether it was a deletion. If there was no such document, this record is removed later, by a null value with the
    same key."""


class DocumentVersion(Message):
    """The digest of a document's last version: a record of `poise.versions`, key = document id.

    It is written before a search can find that version, with the version in the header `poise-doc-version`. A client
    with an answer from an earlier version can therefore learn that there is a newer one, and whether it differs.
    """

    kind: ClassVar[str] = "document-version/1"

    documents: str
    """Kafka's id of the topic `poise.documents` that the version is an offset of."""
    digest: str | None = None
    """The SHA-256 of the document's content, in hexadecimal; absent = the document was deleted."""
