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
_MOVED: Final = "#moved"


@dataclass(frozen=True, slots=True)
class PassageContent:
    """What a passage says, whichever document and version it is of."""

    heading: str | None
    text: str

    @property
    def embedding_text(self) -> str:
        """The text that it is embedded by: the nearest title says what the text goes on about."""
        return self.text if self.heading is None else f"{self.heading.split(TITLE_SEPARATOR)[-1]}\n\n{self.text}"


def split_document(document: Document) -> list[PassageContent]:
    """What the passages of a document say, in order."""
    pieces = split(document.text, document.format)
    return [PassageContent(TITLE_SEPARATOR.join(piece.heading) or None, piece.text) for piece in pieces]


def content_digest(source: str, said: Sequence[PassageContent]) -> str:
    """What a version of a document says, as SHA-256 in hexadecimal: what its passages are made of, and its source.

    Of the passages, not of the document's text: another way to split it makes other passages, and other answers.
    """
    whole = json.dumps([source, *([body.heading, body.text] for body in said)], ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()


def moved_key(document: str) -> str:
    """The key of the record that says what was copied of a document."""
    return f"{document}{_MOVED}"


def part_key(document: str, part: int) -> str:
    """The key of a part's record, and its passage's id."""
    return f"{document}#{part}"


def manifest_key(document: str) -> str:
    """The key of a manifest's record. No part has it: their keys end in a number."""
    return f"{document}{_MANIFEST}"


def document_of_manifest(key: str) -> str | None:
    """The document whose manifest has that key; None for a key of something else."""
    return key.removesuffix(_MANIFEST) if key.endswith(_MANIFEST) else None


def document_of_moved(key: str) -> str | None:
    """The document of which a record was moved, as the record with that key says; None for a key of something else."""
    return key.removesuffix(_MOVED) if key.endswith(_MOVED) else None


def encode_vector(vector: "NDArray[np.float32]") -> str:
    """A vector as it goes on the wire: little-endian float32, base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def decode_vector(text: str, dimensions: int) -> "NDArray[np.float32]":
    """A vector from the wire.

    Raises:
        ValueError: It is not base64 of that many floats.
    """
    import numpy as np  # noqa: PLC0415 - heavy, see embedding

    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except binascii.Error as error:
        raise ValueError(f"a vector is base64: {error}") from error
    if vector.shape != (dimensions,):
        raise ValueError(f"a vector has {dimensions} dimensions, not {vector.size}")
    return vector
