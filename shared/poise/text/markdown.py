"""Markdown's lines that say what others are: titles and fences (CommonMark, sections 4.2 and 4.5). Pure, linear."""

import re
from typing import Final, NamedTuple

_ATX: Final = re.compile(r" {0,3}(#{1,6})[ \t]++(?=\S)")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


class Heading(NamedTuple):
    """A title and its level, from 1."""

    level: int
    text: str


def parse_heading(line: str) -> Heading | None:
    """The title that a line of `#` begins; the `#` that may close it are no part of it."""
    begins = _ATX.match(line)
    if begins is None:
        return None
    text = line[begins.end() :].rstrip()
    closed = text.rstrip("#")
    if closed.endswith((" ", "\t")):
        text = closed.rstrip(" \t")
    return Heading(len(begins[1]), text)


def open_fence(line: str, fence: str) -> str:
    """The fence that is open after a line, empty if none is.

    Args:
        line: The line.
        fence: The fence that was open before it.
    """
    mark = _FENCE.match(line)
    if mark is None:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) else fence
