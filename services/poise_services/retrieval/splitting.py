"""Splitting: a document's text as passages of some 80 to 200 words, cut where its author paused. Pure.

Long words and runs of signs count as several (`size`), so that code, tables and blobs are bounded too. Every word of
the text is in a passage or in a heading; only the lines that draw a heading (`====`, `####`) are dropped, and runs of
spaces where a text is cut.

What a document becomes is bounded by its length. Of one with more passages than `FREE` and one for each `CHARS` of its
characters, as of one that is titles alone, neighbours are merged, and their titles become a part of their text. With a
passage go at most `HEADING` characters of the titles that it stands under, the nearest ones.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Final, Literal, NamedTuple

from poise_services.retrieval.headings import Section, sections

ENOUGH: Final = 80
"""A passage of this size ends at the next pause."""
MOST: Final = 200
"""No passage is larger."""
_CRUMB: Final = 40
"""What is left at a section's end and smaller than this joins the passage before, if it fits."""
FREE: Final = 32
"""Passages that a document may have however short it is."""
CHARS: Final = 100
"""Characters of a document for each passage beyond."""
HEADING: Final = 400
"""Characters of the titles that go with each passage."""
TITLES: Final = " › "
"""Between two titles."""
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
    pieces = _pieces(sections(text, form))
    if len(pieces) > FREE + len(text) // CHARS:
        pieces = list(_merged(pieces))
    return [Piece(_nearest(piece.heading), piece.text) for piece in pieces]


def _pieces(found: Sequence[Section]) -> "list[_Under]":
    """The passages of each section; one without text has its title as one, unless it goes with the next passage."""
    pieces: list[_Under] = []
    following: tuple[str, ...] = ()
    dropped = 0  # of the titles that the following passage stands under, those that are too far up to go with it
    for section in reversed(found):
        heading, texts = section.heading, _passages(section)
        if texts:
            pieces += (_Under(heading, passage) for passage in reversed(texts))
            following, dropped = heading, len(heading) - len(_nearest(heading))
        elif heading and (following[: len(heading)] != heading or dropped >= len(heading)):
            pieces.append(_Under(heading[:-1], heading[-1]))
            following, dropped = heading, len(heading) - 1 - len(_nearest(heading[:-1]))
    return pieces[::-1]


def _nearest(heading: tuple[str, ...]) -> tuple[str, ...]:
    """The last titles of a heading, as many as may go with each passage."""
    kept, left = len(heading), HEADING
    while kept and (left := left - len(heading[kept - 1])) >= 0:
        kept -= 1
    return heading[kept:]


class _Under(NamedTuple):
    """A passage to be, and all titles that it stands under."""

    heading: tuple[str, ...]
    text: str


def _merged(pieces: Iterable[_Under]) -> Iterator[_Under]:
    """Neighbours put together until they have as many characters as are due for one passage, as far as they fit.

    They stand under the titles of the first; those that change on the way become lines of the text, each once.
    """
    lines: list[str] = []
    first = before = tuple[str, ...]()
    chars = filled = 0
    for piece in pieces:
        alike = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(before, piece.heading, strict=False)))
        new = TITLES.join(piece.heading[alike:]) if lines else ""
        weight = size(new) + size(piece.text)
        if lines and (chars >= CHARS or filled + weight > MOST):
            yield _Under(first, "\n\n".join(lines))
            lines, chars, filled, new, weight = [], 0, 0, "", size(piece.text)
        first = first if lines else piece.heading
        lines += filter(None, (new, piece.text))
        before = piece.heading
        chars += len(new) + len(piece.text)
        filled += weight
    if lines:
        yield _Under(first, "\n\n".join(lines))


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
    word = text.strip()
    yield from (word[start : start + MOST] for start in range(0, len(word), MOST))


def _ways_to_cut(text: str) -> Iterator[tuple[list[str], str]]:
    yield [part for part in text.split("\n\n") if part.strip()], "\n\n"
    if not _INDENTED.match(text) and "|" not in text:
        yield _SENTENCE.split(text), " "
    yield [line for line in text.split("\n") if line.strip()], "\n"
    yield text.split(), " "
