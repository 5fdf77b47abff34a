"""Passages: the records of `poise.passages`, their keys and their vectors."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from poise.contracts import Document
from poise_services.retrieval.splitting import TITLE_SEPARATOR, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MANIFEST: Final = "#manifest"
_COPY_NOTE: Final = "#moved"


@dataclass(frozen=True, slots=True)
class PassageContent:
    """The content of a passage, independent of document and version."""

    heading: str | None
    text: str

    @property
    def embedding_text(self) -> str:
        """The text to embed: the nearest title, which gives context, and the text."""
        return self.text if self.heading is None else f"{self.heading.split(TITLE_SEPARATOR)[-1]}\n\n{self.text}"


def split_document(document: Document) -> list[PassageContent]:
    """Return the contents of a document's passages, in order."""
    passages = split(document.text, document.format)
    return [PassageContent(TITLE_SEPARATOR.join(passage.heading) or None, passage.text) for passage in passages]


def content_digest(source: str, contents: Sequence[PassageContent]) -> str:
    """Return the SHA-256 of a version's source and passages, in hexadecimal.

    It covers the passages, not the document's text, because a different splitter makes different answers.
    """
    content_json = json.dumps([source, *([content.heading, content.text] for content in contents)], ensure_ascii=False)
    return hashlib.sha256(content_json.encode()).hexdigest()


def copy_note_key(document: str) -> str:
    """Return the key of the note that a document was copied."""
    return f"{document}{_COPY_NOTE}"


def passage_record_key(document: str, passage_number: int) -> str:
    """Return the key of a passage's record, which is the passage's id."""
    return f"{document}#{passage_number}"


def manifest_key(document: str) -> str:
    """Return the key of a manifest. It differs from all keys of passages, which end in a number."""
    return f"{document}{_MANIFEST}"


def document_of_manifest(key: str) -> str | None:
    """Return the document of a manifest key; None for another key."""
    return key.removesuffix(_MANIFEST) if key.endswith(_MANIFEST) else None


def document_of_copy_note(key: str) -> str | None:
    """Return the document of a copy note's key; None for another key."""
    return key.removesuffix(_COPY_NOTE) if key.endswith(_COPY_NOTE) else None


def encode_vector(vector: "NDArray[np.float32]") -> str:
    """Encode a vector for the wire: little-endian float32, base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def decode_vector(text: str, dimensions: int) -> "NDArray[np.float32]":
    """Decode a vector from the wire.

    Raises:
        ValueError: It is not base64 of `dimensions` floats.
    """
    import numpy as np  # noqa: PLC0415 - heavy, see embedding

    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except binascii.Error as error:
        raise ValueError(f"a vector is base64: {error}") from error
    if vector.shape != (dimensions,):
        raise ValueError(f"a vector has {dimensions} dimensions, not {vector.size}")
    return vector
