"""The lines of a TOML file on which its keys stand: `tomllib` gives values, and says nothing of where they are.

The document is parted into statements by what opens and closes in them: strings of several lines, arrays, tables. Each
is parsed on its own. What is new in one with the line that came last stands on that line; for that a value that goes on
below is closed for as long, which is done for the beginning of a statement only: it takes a parse for each line.
(`spanned-toml` is a copy of `tomli` that was kept up for a month in 2022; there is no other library for it in Python.)
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KeyPath = tuple[str | int, ...]
"""Keys from the top of the document, and the number, from 0, where an array is gone through."""

_CLOSED: Final = ("", "]", "]]", '"""', "'''", '"""]', "'''\n]")
"""What makes a statement whole that goes on in the next line: an array, a string of several lines, or both."""
_TOKEN: Final = re.compile(
    r"""
    (?P<open>"{3}|'{3})                                    # a string of several lines
    | "(?:[^"\\]|\\.?)*+(?:"|\Z) | '[^']*+(?:'|\Z) | \#.*    # strings and comments, which hide what is in them
    | (?P<more>[\[{]) | (?P<less>[\]}])
    """,
    re.VERBOSE,
)
_BASIC_END: Final = re.compile(r'(?:\\.)|("{3,5})')
_LITERAL_END: Final = re.compile(r"('{3,5})")
_CLOSES: Final = {'"""': _BASIC_END, "'''": _LITERAL_END}
_LINES: Final = 50
_CHARS: Final = 4_000
"""What is parsed line by line of a statement; what begins behind that is said to stand where the statement begins."""

_DEPTH: Final = 100
"""Keys, one within the other, whose lines are looked for."""


@dataclass(slots=True)
class _Statement:
    """Some lines of a document that are parsed together."""

    begins: int
    lines: list[str] = field(default_factory=list)
    depth: int = 0
    """How many arrays and inline tables are open."""
    string: str = ""
    """What closes the string of several lines that is open."""

    @property
    def whole(self) -> bool:
        return self.depth <= 0 and not self.string

    @property
    def header(self) -> bool:
        """Whether it opens a table; it has one line then."""
        return self.lines[0].lstrip().startswith("[")

    def take(self, line: str) -> None:
        """Take one more line."""
        self.lines.append(line)
        at = 0
        while at < len(line):
            found = (_CLOSES[self.string] if self.string else _TOKEN).search(line, at)
            if found is None:
                return
            at = found.end()
            if self.string:
                self.string = "" if found[1] else self.string
            else:
                self.string = found["open"] or ""
                self.depth += bool(found["more"]) - bool(found["less"])

    def beginnings(self) -> Iterator[tuple[int, str]]:
        """Its lines, and with each of them those before it, as far as they are parsed one by one; then all of them."""
        chars = 0
        for number, line in enumerate(self.lines[:-1], 1):
            chars += len(line)
            if number > _LINES or chars > _CHARS:
                yield self.begins, "\n".join(self.lines)
                return
            yield self.begins + number - 1, "\n".join(self.lines[:number])
        yield self.begins + len(self.lines) - 1, "\n".join(self.lines)


def _statements(text: str) -> Iterator[_Statement]:
    statement = _Statement(1)
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if statement.lines and (statement.whole or statement.header):
            yield statement
            statement = _Statement(number)
        statement.take(line)
    yield statement


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each key, table and element of an array begins.

    Args:
        text: A document that `tomllib` can read.
    """
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for statement in _statements(text):
        if statement.header:
            table = _opened_table(statement.lines[0], arrays)
            lines.setdefault(table, statement.begins)
            continue
        for number, beginning in statement.beginnings():
            found = next(filter(None, (_parse(f"{beginning}\n{closing}") for closing in _CLOSED)), {})
            for path in _key_paths(found):
                lines.setdefault(table + path, number)
    return lines


def line_of_syntax_error(text: str) -> int:
    """The line on which the statement of a document begins that cannot be read, or goes on where the document ends."""
    begins = 1
    for statement in _statements(text):
        begins = statement.begins if any(map(str.strip, statement.lines)) else begins
        if not statement.header and _parse("\n".join(statement.lines)) is None:
            return statement.begins
    return begins


def _opened_table(header: str, arrays: dict[KeyPath, int]) -> KeyPath:
    """The table that a header opens; in an array of tables, its last."""
    found: Any = tomllib.loads(header)
    path: KeyPath = ()
    while isinstance(found, Mapping) and found:
        [(key, found)] = found.items()
        path += (key,)
        if isinstance(found, list):  # `[[…]]`
            arrays[path] = arrays.get(path, -1) + 1
            return (*path, arrays[path])
        if path in arrays and found:
            path += (arrays[path],)
    return path


def _parse(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _key_paths(found: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if len(path) > _DEPTH:
        return
    if path:
        yield path
    items = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list) else ()
    for key, value in items:
        yield from _key_paths(value, (*path, key))
