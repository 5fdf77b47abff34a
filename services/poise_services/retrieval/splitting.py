"""Splits a document's text into passages of about 80 to 200 tokens, at paragraph and section boundaries.

No clock, no I/O.

Long words and runs of symbols count as several tokens (`estimate_tokens`), so that code, tables and blobs are bounded
too. Each word of the text is in a passage or in a heading. Only heading markup (`====`, `####`) and whitespace at cuts
are dropped.

The number of passages is bounded by the document's length: `FREE_PASSAGES`, plus one for each `CHARS_PER_PASSAGE`
characters. Beyond that, such as in a document of titles alone, neighbors are merged, and their titles become part of
their text. A passage carries at most `MAX_HEADING_CHARS` characters of its titles, the nearest ones.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Final, Literal, NamedTuple

from poise_services.retrieval.headings import Section, split_sections

TARGET_TOKENS: Final = 80
"""From this size on, a passage ends at the next paragraph."""
MAX_TOKENS: Final = 200
"""The largest size of a passage."""
_MIN_TAIL_TOKENS: Final = 40
"""A smaller last passage of a section is appended to the previous one, if it fits."""
FREE_PASSAGES: Final = 32
"""Passages that any document may have."""
CHARS_PER_PASSAGE: Final = 100
"""Characters of a document for each further passage."""
MAX_HEADING_CHARS: Final = 400
"""Maximum number of characters of titles that a passage has."""
TITLE_SEPARATOR: Final = " › "
"""Separates the titles of a passage."""
_WORD: Final = re.compile(r"\w{1,8}|[^\w\s]{1,2}|\s{64}")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_INDENTED: Final = re.compile(r"[ \t]")


@dataclass(frozen=True, slots=True)
class SplitPassage:
    """A passage of a document: its heading and its text."""

    heading: tuple[str, ...]
    """The titles above it, outermost first."""
    text: str


def estimate_tokens(text: str) -> int:
    """Return the approximate number of an embedding model's tokens in a text.

    Words of more than eight letters count as several tokens, two symbols as one.
    """
    return sum(1 for _ in _WORD.finditer(text))


def split(text: str, form: Literal["text", "markdown"] = "text") -> list[SplitPassage]:
    """Split a document.

    Args:
        text: Text with blank lines between paragraphs.
        form: `text` recognizes underlined titles (reStructuredText), `markdown` the headings of Markdown.

    Returns:
        The passages in order; empty only if there is no text.
    """
    chunks = _chunks_of(split_sections(text, form))
    if len(chunks) > FREE_PASSAGES + len(text) // CHARS_PER_PASSAGE:
        chunks = list(_merge_small(chunks))
    return [SplitPassage(_nearest_titles(chunk.heading), chunk.text) for chunk in chunks]


def _chunks_of(sections: Sequence[Section]) -> "list[_Chunk]":
    """Return the chunks of each section: passages before small ones are merged.

    The title of a section without text becomes a passage, unless the next passage carries it.
    """
    chunks: list[_Chunk] = []
    following: tuple[str, ...] = ()
    dropped = 0  # the number of outer titles that the following passage cannot carry
    for section in reversed(sections):
        heading, texts = section.heading, _section_texts(section)
        if texts:
            chunks += (_Chunk(heading, passage) for passage in reversed(texts))
            following, dropped = heading, len(heading) - len(_nearest_titles(heading))
        elif heading and (following[: len(heading)] != heading or dropped >= len(heading)):
            chunks.append(_Chunk(heading[:-1], heading[-1]))
            following, dropped = heading, len(heading) - 1 - len(_nearest_titles(heading[:-1]))
    return chunks[::-1]


def _nearest_titles(heading: tuple[str, ...]) -> tuple[str, ...]:
    """Return the innermost titles of a heading, up to `MAX_HEADING_CHARS`."""
    first, remaining = len(heading), MAX_HEADING_CHARS
    while first and (remaining := remaining - len(heading[first - 1])) >= 0:
        first -= 1
    return heading[first:]


class _Chunk(NamedTuple):
    """A passage before small ones are merged: its text, and all titles above it."""

    heading: tuple[str, ...]
    text: str


def _merge_small(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    """Merge neighbors up to `CHARS_PER_PASSAGE` characters, and at most `MAX_TOKENS` tokens.

    A merged passage has the titles of its first chunk; titles that change after it become lines of the text.
    """
    lines: list[str] = []
    first = previous = tuple[str, ...]()
    chars = tokens = 0
    for chunk in chunks:
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(previous, chunk.heading, strict=False)))
        new_titles = TITLE_SEPARATOR.join(chunk.heading[common:]) if lines else ""
        added = estimate_tokens(new_titles) + estimate_tokens(chunk.text)
        if lines and (chars >= CHARS_PER_PASSAGE or tokens + added > MAX_TOKENS):
            yield _Chunk(first, "\n\n".join(lines))
            lines, chars, tokens, new_titles, added = [], 0, 0, "", estimate_tokens(chunk.text)
        first = first if lines else chunk.heading
        lines += filter(None, (new_titles, chunk.text))
        previous = chunk.heading
        chars += len(new_titles) + len(chunk.text)
        tokens += added
    if lines:
        yield _Chunk(first, "\n\n".join(lines))


def _section_texts(section: Section) -> list[str]:
    passages = [
        passage
        for joined in _join(_linked_blocks(section.blocks), "\n\n", TARGET_TOKENS)
        for passage in _split_to_fit(joined)
    ]
    if (
        len(passages) > 1
        and estimate_tokens(passages[-1]) < _MIN_TAIL_TOKENS
        and estimate_tokens(passages[-2]) + estimate_tokens(passages[-1]) <= MAX_TOKENS
    ):
        passages[-2:] = ["\n\n".join(passages[-2:])]
    return passages


def _linked_blocks(blocks: tuple[str, ...]) -> Iterator[str]:
    """Join blocks that belong together: an indented block, or one after a colon, stays with the previous block."""
    linked: list[str] = []
    for previous, block in pairwise(("", *blocks)):
        if linked and not _INDENTED.match(block) and not previous.endswith(":"):
            yield "\n\n".join(linked)
            linked = []
        linked.append(block)
    if linked:
        yield "\n\n".join(linked)


def _join(texts: Iterable[str], separator: str, target: int) -> Iterator[str]:
    """Join texts up to `target` tokens; a text that would exceed `MAX_TOKENS` starts the next joined one."""
    group: list[str] = []
    tokens = 0
    for text in texts:
        added = estimate_tokens(text)
        if group and (tokens >= target or tokens + added > MAX_TOKENS):
            yield separator.join(group)
            group, tokens = [], 0
        group.append(text)
        tokens += added
    if group:
        yield separator.join(group)


def _split_to_fit(text: str) -> Iterator[str]:
    """Split a text into parts of up to `MAX_TOKENS`: at blank lines if possible, else at sentences, lines or words."""
    if estimate_tokens(text) <= MAX_TOKENS:
        yield text
        return
    for parts, separator in _separators(text):
        if len(parts) > 1:
            for joined in _join(parts, separator, MAX_TOKENS):
                yield from _split_to_fit(joined)
            return
    word = text.strip()
    yield from (word[start : start + MAX_TOKENS] for start in range(0, len(word), MAX_TOKENS))


def _separators(text: str) -> Iterator[tuple[list[str], str]]:
    yield [part for part in text.split("\n\n") if part.strip()], "\n\n"
    if not _INDENTED.match(text) and "|" not in text:
        yield _SENTENCE.split(text), " "
    yield [line for line in text.split("\n") if line.strip()], "\n"
    yield text.split(), " "
