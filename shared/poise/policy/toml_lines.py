"""The lines of a TOML file on which its keys stand: `tomllib` gives values, and says nothing of where they are.

A statement of TOML is whole as soon as it can be parsed on its own, so lines are put together until that is so. What is
new in it with the line that came last stands on that line; a value that goes on below is closed for as long.
(`spanned-toml` is a copy of `tomli` that was kept up for a month in 2022; there is no other library for it in Python.)
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

Path = tuple[str | int, ...]
"""Keys from the top of the document, and the number, from 0, where an array is gone through."""

_CLOSED: Final = ("", "]", "]]", '"""', "'''", '"""]', "'''\n]")
"""What makes a statement whole that goes on in the next line: an array, a string of several lines, or both."""


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, on which each key, table and element of an array begins.

    Args:
        text: A document that `tomllib` can read.
    """
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    statement = ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        statement += line + "\n"
        if statement.lstrip().startswith("["):  # headers stand on one line
            table = _opened(statement, arrays)
            lines.setdefault(table, number)
            statement = ""
            continue
        for closing in _CLOSED:
            found = _parsed(statement + closing)
            if found is None:
                continue
            for path in _paths(found):
                lines.setdefault(table + path, number)
            if not closing:
                statement = ""
            break
    return lines


def unfinished(text: str) -> int:
    """The line on which the last statement of a document begins, which goes on where the document ends."""
    statement, begins = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        begins = begins if statement else number
        statement += line + "\n"
        if statement.lstrip().startswith("[") or _parsed(statement) is not None:
            statement = ""
    return begins


def _opened(header: str, arrays: dict[Path, int]) -> Path:
    """The table that a header opens; in an array of tables, its last."""
    found: Any = tomllib.loads(header)
    path: Path = ()
    while isinstance(found, Mapping) and found:
        [(key, found)] = found.items()
        path += (key,)
        if isinstance(found, list):  # `[[…]]`
            arrays[path] = arrays.get(path, -1) + 1
            return (*path, arrays[path])
        if path in arrays and found:
            path += (arrays[path],)
    return path


def _parsed(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None


def _paths(found: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    items = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))
