"""Splits a text into sections, each with its titles and its blocks (paragraphs, lists, code). No clock, no I/O."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from poise.text.markdown import open_fence, parse_heading

_MAX_TITLE_CHARS: Final = 200
_UNDERLINE: Final = re.compile(r"([*=~^\"#+-])\1{2,}\s*")
_SETEXT: Final = re.compile(r"(=|-)\1{2,}\s*")


@dataclass(frozen=True, slots=True)
class Section:
    """The text between two titles."""

    heading: tuple[str, ...]
    """The titles above it, outermost first; empty before the first title."""
    blocks: tuple[str, ...]
    """Its text, split at blank lines; a fenced block of Markdown is one block."""


class _Title(NamedTuple):
    level: int
    text: str
    lines: int
    """The number of lines that it takes."""


@dataclass(slots=True)
class _TitleStyles:
    """The underline styles of titles, in the order of first use, which is their level (reStructuredText)."""

    seen: list[str] = field(default_factory=list)

    def level(self, style: str) -> int:
        if style not in self.seen:
            self.seen.append(style)
        return self.seen.index(style)


def split_sections(text: str, form: Literal["text", "markdown"]) -> list[Section]:
    """Return the sections of a text in order, including those without blocks."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    styles = _TitleStyles()
    path: list[tuple[int, str]] = []  # the level and text of each title above the current section
    sections: list[Section] = []
    body: list[str] = []
    fence = ""
    index = 0
    while index < len(lines):
        fence = open_fence(lines[index], fence) if form == "markdown" else ""
        title = None if fence else _title(lines, index, form, styles)
        if title is None:
            body.append(lines[index])
            index += 1
            continue
        sections.append(Section(tuple(name for _, name in path), tuple(_blocks(body, form))))
        path = [*((level, name) for level, name in path if level < title.level), (title.level, title.text)]
        body = []
        index += title.lines
    sections.append(Section(tuple(name for _, name in path), tuple(_blocks(body, form))))
    return sections if sections[0].blocks or sections[0].heading or len(sections) == 1 else sections[1:]


def _title(lines: list[str], index: int, form: str, styles: _TitleStyles) -> _Title | None:
    if form == "markdown" and (title := parse_heading(lines[index])) and len(title.text) <= _MAX_TITLE_CHARS:
        return _Title(title.level, title.text, 1)
    if index and lines[index - 1].strip():
        return None
    line, below, last = (lines[i] if i < len(lines) else "" for i in (index, index + 1, index + 2))
    if form == "markdown":
        setext = _SETEXT.fullmatch(below)
        return _Title("=-".index(setext[1]) + 1, line.strip(), 2) if setext and _may_be_title(line) else None
    if (style := _underline_style(below, line)) is not None:
        return _Title(styles.level(style), line.strip(), 2)
    if line.strip() == last.strip() and (style := _underline_style(last, below)) is not None:
        return _Title(styles.level(style * 2), below.strip(), 3)
    return None


def _underline_style(line: str, title: str) -> str | None:
    """Return the character of a line that underlines the title at its full length; None for another line."""
    underline = _UNDERLINE.fullmatch(line)
    return underline[1] if underline and _may_be_title(title) and len(line.rstrip()) >= len(title.rstrip()) else None


def _may_be_title(line: str) -> bool:
    plain = bool(line.strip()) and not line[0].isspace() and len(line) <= _MAX_TITLE_CHARS
    return plain and not _UNDERLINE.fullmatch(line)


def _blocks(lines: list[str], form: str) -> Iterator[str]:
    block: list[str] = []
    fence = ""
    for line in lines:
        fence = open_fence(line, fence) if form == "markdown" else ""
        if line.strip() or fence:
            block.append(line.rstrip())
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)
