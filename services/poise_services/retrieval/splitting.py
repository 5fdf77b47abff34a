"""Splits a document's text into passages of about 80 to 200 tokens, at paragraph and section boundaries. Pure.

Long words and runs of symbols count as several tokens (`estimate_tokens`), so that code, tables and blobs are bounded
too. Each word of the text is in a passage or in a heading. Only heading markup (`====`, `####`) is dropped, and runs of
spaces at a cut.

The number of passages is bounded by the document's length: `FREE_PASSAGES`, plus one for each `CHARS_PER_PASSAGE`
characters. Beyond that, such as in a document of titles alone, neighbours are merged, and their titles become part of
their text. A passage carries at most `MAX_HEADING_CHARS` characters of its titles, the nearest ones.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Final, Literal, NamedTuple

from poise_services.retrieval.headings import Section, split_sections

TARGET_TOKENS: Final = 80
"""A passage of this size ends at the next pause."""
MAX_TOKENS: Final = 200
"""No passage is larger."""
_MIN_TAIL_TOKENS: Final = 40
"""What is left at a section's end and smaller than this joins the passage before, if it fits."""
FREE_PASSAGES: Final = 32
"""Passages that a document may have however short it is."""
CHARS_PER_PASSAGE: Final = 100
"""Characters of a document for each passage beyond."""
MAX_HEADING_CHARS: Final = 400
"""Characters of the titles that go with each passage."""
TITLE_SEPARATOR: Final = " › "
"""Between two titles."""
_WORD: Final = re.compile(r"\w{1,8}|[^\w\s]{1,2}|\s{64}")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_INDENTED: Final = re.compile(r"[ \t]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage to be."""

    heading: tuple[str, ...]
    """The titles it stands under, outermost first."""
    text: str


def estimate_tokens(text: str) -> int:
    """How large a text is: in words, one of more than eight letters counting as several, two signs as one.

    An embedding model's tokens are about as many.
    """
    return sum(1 for _ in _WORD.finditer(text))


def split(text: str, form: Literal["text", "markdown"] = "text") -> list[Chunk]:
    """Split a document.

    Args:
        text: Text whose paragraphs are parted by blank lines.
        form: `text` knows titles that are underlined (reStructuredText), `markdown` those of Markdown.

    Returns:
        The passages in order; none only if there is no text.
    """
    pieces = _raw_chunks(split_sections(text, form))
    if len(pieces) > FREE_PASSAGES + len(text) // CHARS_PER_PASSAGE:
        pieces = list(_merge_small(pieces))
    return [Chunk(_nearest_titles(piece.heading), piece.text) for piece in pieces]


def _raw_chunks(found: Sequence[Section]) -> "list[_RawChunk]":
    """The passages of each section; one without text has its title as one, unless it goes with the next passage."""
    pieces: list[_RawChunk] = []
    following: tuple[str, ...] = ()
    dropped = 0  # of the titles that the following passage stands under, those that are too far up to go with it
    for section in reversed(found):
        heading, texts = section.heading, _section_chunks(section)
        if texts:
            pieces += (_RawChunk(heading, passage) for passage in reversed(texts))
            following, dropped = heading, len(heading) - len(_nearest_titles(heading))
        elif heading and (following[: len(heading)] != heading or dropped >= len(heading)):
            pieces.append(_RawChunk(heading[:-1], heading[-1]))
            following, dropped = heading, len(heading) - 1 - len(_nearest_titles(heading[:-1]))
    return pieces[::-1]


def _nearest_titles(heading: tuple[str, ...]) -> tuple[str, ...]:
    """The last titles of a heading, as many as may go with each passage."""
    kept, left = len(heading), MAX_HEADING_CHARS
    while kept and (left := left - len(heading[kept - 1])) >= 0:
        kept -= 1
    return heading[kept:]


class _RawChunk(NamedTuple):
    """A passage to be, and all titles that it stands under."""

    heading: tuple[str, ...]
    text: str


def _merge_small(pieces: Iterable[_RawChunk]) -> Iterator[_RawChunk]:
    """Neighbours put together until they have as many characters as are due for one passage, as far as they fit.

    They stand under the titles of the first; those that change on the way become lines of the text, each once.
    """
    lines: list[str] = []
    first = before = tuple[str, ...]()
    chars = filled = 0
    for piece in pieces:
        alike = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(before, piece.heading, strict=False)))
        new = TITLE_SEPARATOR.join(piece.heading[alike:]) if lines else ""
        weight = estimate_tokens(new) + estimate_tokens(piece.text)
        if lines and (chars >= CHARS_PER_PASSAGE or filled + weight > MAX_TOKENS):
            yield _RawChunk(first, "\n\n".join(lines))
            lines, chars, filled, new, weight = [], 0, 0, "", estimate_tokens(piece.text)
        first = first if lines else piece.heading
        lines += filter(None, (new, piece.text))
        before = piece.heading
        chars += len(new) + len(piece.text)
        filled += weight
    if lines:
        yield _RawChunk(first, "\n\n".join(lines))


def _section_chunks(section: Section) -> list[str]:
    passages = [
        passage for pack in _pack(_units(section.blocks), "\n\n", TARGET_TOKENS) for passage in _split_to_fit(pack)
    ]
    if (
        len(passages) > 1
        and estimate_tokens(passages[-1]) < _MIN_TAIL_TOKENS
        and estimate_tokens(passages[-2]) + estimate_tokens(passages[-1]) <= MAX_TOKENS
    ):
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
        weight = estimate_tokens(unit)
        if pack and (filled >= enough or filled + weight > MAX_TOKENS):
            yield joint.join(pack)
            pack, filled = [], 0
        pack.append(unit)
        filled += weight
    if pack:
        yield joint.join(pack)


def _split_to_fit(text: str) -> Iterator[str]:
    """The text in parts that are not too large: cut at blank lines if that does, else at sentences, lines, words."""
    if estimate_tokens(text) <= MAX_TOKENS:
        yield text
        return
    for parts, joint in _separators(text):
        if len(parts) > 1:
            for pack in _pack(parts, joint, MAX_TOKENS):
                yield from _split_to_fit(pack)
            return
    word = text.strip()
    yield from (word[start : start + MAX_TOKENS] for start in range(0, len(word), MAX_TOKENS))


def _separators(text: str) -> Iterator[tuple[list[str], str]]:
    yield [part for part in text.split("\n\n") if part.strip()], "\n\n"
    if not _INDENTED.match(text) and "|" not in text:
        yield _SENTENCE.split(text), " "
    yield [line for line in text.split("\n") if line.strip()], "\n"
    yield text.split(), " "
