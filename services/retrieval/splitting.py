"""Splitting: a document's text as passages of some 80 to 200 words, cut where its author paused. Pure.

Long words and runs of signs count as several (`size`), so that code, tables and blobs are bounded too. Every word of
the text is in exactly one passage or in a heading; only the lines that draw a heading (`====`, `####`) are dropped.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from services.retrieval.headings import Section, sections

ENOUGH: Final = 80
"""A passage of this size ends at the next pause."""
MOST: Final = 200
"""No passage is larger."""
_CRUMB: Final = 40
"""What is left at a section's end and smaller than this joins the passage before, if it fits."""
_WORD: Final = re.compile(r"\w{1,8}|[^\w\s]{1,2}|\s{64}")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_INDENTED: Final = re.compile(r"[ \t]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage to be."""

    heading: tuple[str, ...]
    """The titles it stands under, outermost first."""
    text: str


def size(text: str) -> int:
    """How large a text is: in words, one of more than eight letters counting as several, two signs as one.

    An embedding model's tokens are about as many.
    """
    return sum(1 for _ in _WORD.finditer(text))


def split(text: str, form: Literal["text", "markdown"] = "text") -> list[Piece]:
    """Split a document.

    Args:
        text: Text whose paragraphs are parted by blank lines.
        form: `text` knows titles that are underlined (reStructuredText), `markdown` those of Markdown.

    Returns:
        The passages in order; none only if there is no text.
    """
    pieces: list[Piece] = []
    found = sections(text, form)
    for section, following in zip(found, [*found[1:], None], strict=True):
        texts = _passages(section)
        if not texts and section.heading and not _continues(section, following):
            pieces.append(Piece(section.heading[:-1], section.heading[-1]))
        pieces.extend(Piece(section.heading, passage) for passage in texts)
    return pieces


def _continues(section: Section, following: Section | None) -> bool:
    """Whether the next section's heading repeats this one's, so that an empty section loses nothing."""
    return following is not None and following.heading[: len(section.heading)] == section.heading


def _passages(section: Section) -> list[str]:
    passages = [passage for pack in _pack(_units(section.blocks), "\n\n", ENOUGH) for passage in _within_bounds(pack)]
    if len(passages) > 1 and size(passages[-1]) < _CRUMB and size(passages[-2]) + size(passages[-1]) <= MOST:
        passages[-2:] = ["\n\n".join(passages[-2:])]
    return passages


def _units(blocks: tuple[str, ...]) -> Iterator[str]:
    """Blocks that belong together as one: what is indented, or announced by a colon, stays with what it follows."""
    unit: list[str] = []
    for before, block in pairwise(("", *blocks)):
        if unit and not _INDENTED.match(block) and not before.endswith(":"):
            yield "\n\n".join(unit)
            unit = []
        unit.append(block)
    if unit:
        yield "\n\n".join(unit)


def _pack(units: Iterable[str], joint: str, enough: int) -> Iterator[str]:
    """Join units until there is enough of them; one that would make it too much begins the next."""
    pack: list[str] = []
    filled = 0
    for unit in units:
        weight = size(unit)
        if pack and (filled >= enough or filled + weight > MOST):
            yield joint.join(pack)
            pack, filled = [], 0
        pack.append(unit)
        filled += weight
    if pack:
        yield joint.join(pack)


def _within_bounds(text: str) -> Iterator[str]:
    """The text in parts that are not too large: cut at blank lines if that does, else at sentences, lines, words."""
    if size(text) <= MOST:
        yield text
        return
    for parts, joint in _ways_to_cut(text):
        if len(parts) > 1:
            for pack in _pack(parts, joint, MOST):
                yield from _within_bounds(pack)
            return
    yield from (text[start : start + MOST] for start in range(0, len(text), MOST))


def _ways_to_cut(text: str) -> Iterator[tuple[list[str], str]]:
    yield [part for part in text.split("\n\n") if part.strip()], "\n\n"
    if not _INDENTED.match(text) and "|" not in text:
        yield _SENTENCE.split(text), " "
    yield [line for line in text.split("\n") if line.strip()], "\n"
    yield text.split(), " "
