"""Passages: the records of `poise.passages`, their keys and their vectors."""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from poise.contracts import Document, Part
from services.retrieval.splitting import Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BETWEEN_TITLES: Final = " › "  # noqa: RUF001 - the sign is meant


def part_key(document: str, part: int) -> str:
    """The key of a part's record, and its passage's id."""
    return f"{document}#{part}"


def manifest_key(document: str) -> str:
    """The key of a manifest's record. No part has it: their keys end in a number."""
    return f"{document}#manifest"


def meaning(part: Part | Piece) -> str:
    """The text that a part is embedded by: its titles say what the text goes on about."""
    heading = BETWEEN_TITLES.join(part.heading) if isinstance(part, Piece) else part.heading
    return f"{heading}\n\n{part.text}" if heading else part.text


def parts_of(
    document: str, said: Document, pieces: Sequence[Piece], vectors: Sequence[str], *, model: str, published: float
) -> list[Part]:
    """The parts of a document's version, from its pieces and their encoded vectors."""
    return [
        Part(
            document=document,
            part=number,
            source=said.source,
            heading=BETWEEN_TITLES.join(piece.heading) or None,
            text=piece.text,
            vector=vector,
            model=model,
            published=published,
        )
        for number, (piece, vector) in enumerate(zip(pieces, vectors, strict=True))
    ]


def encode_vector(vector: "NDArray[np.float32]") -> str:
    """A vector as it goes on the wire: little-endian float32, base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def decode_vector(text: str) -> "NDArray[np.float32]":
    """A vector from the wire.

    Raises:
        ValueError: It is not base64, or no whole number of floats.
    """
    import numpy as np  # noqa: PLC0415 - heavy, see embedding

    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
