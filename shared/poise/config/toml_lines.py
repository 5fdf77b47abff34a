"""The lines of a TOML file on which its keys stand: `tomllib` returns values without their positions.

tree-sitter parses the file a second time, and only if an error message needs a line.
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tree_sitter import Node

KeyPath = tuple[str | int, ...]
"""Keys from the top of the document, and the index, from 0, of an element of an array."""

_DEPTH: Final = 100
"""Keys of a path at most; deeper values have no line."""
_HEADERS: Final = frozenset({"table", "table_array_element"})


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, on which each key, table and array element begins.

    Args:
        text: A document that `tomllib` can read.
    """
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    for node in _parse(text).children:
        if node.type in _HEADERS:
            table = _opened_table(node, arrays)
            lines.setdefault(table, _line(node))
            pairs = [child for child in node.named_children if child.type == "pair"]
        else:
            table, pairs = (), [node] if node.type == "pair" else []
        for pair in pairs:
            for path, line in _pair_lines(pair, table):
                lines.setdefault(path, line)
    return lines


def line_of_syntax_error(text: str) -> int:
    """Return the line on which the first invalid or unfinished statement begins."""
    invalid = (node for node in _statements(_parse(text)) if node.has_error)
    return next(map(_line, invalid), text.count("\n") + 1)


def _statements(parent: "Node") -> Iterator["Node"]:
    for node in parent.children:
        if node.type in _HEADERS:
            yield from _statements(node)
        yield node


def _parse(text: str) -> "Node":
    import tree_sitter_toml  # noqa: PLC0415 - a file without errors must not pay for these imports
    from tree_sitter import Language, Parser  # noqa: PLC0415

    return Parser(Language(tree_sitter_toml.language())).parse(text.encode(errors="replace")).root_node


def _line(node: "Node") -> int:
    return node.start_point.row + 1


def _opened_table(header: "Node", arrays: dict[KeyPath, int]) -> KeyPath:
    """Return the path of the table that a header opens; in an array of tables, of its newest element."""
    path: KeyPath = ()
    keys = _keys(header.named_children[0])
    for number, key in enumerate(keys, 1):
        path += (key,)
        if number == len(keys) and header.type == "table_array_element":
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path += (arrays[path],)
    return path


def _pair_lines(pair: "Node", table: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    key, value = (child for child in pair.named_children if child.type != "comment")
    path = table
    for name in _keys(key):
        path += (name,)
        yield path, _line(key)
    yield from _value_lines(value, path)


def _value_lines(value: "Node", path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if len(path) > _DEPTH:
        return
    if value.type == "inline_table":
        for pair in value.named_children:
            if pair.type == "pair":
                yield from _pair_lines(pair, path)
    elif value.type == "array":
        elements = [element for element in value.named_children if element.type != "comment"]
        for index, element in enumerate(elements):
            yield (*path, index), _line(element)
            yield from _value_lines(element, (*path, index))


def _keys(key: "Node") -> list[str]:
    """Return the keys of a bare, quoted or dotted key, with their escapes resolved."""
    text = (key.text or b"").decode()
    if key.type == "bare_key":
        return [text]
    found: Any = tomllib.loads(f"{text} = 0")
    keys: list[str] = []
    while isinstance(found, Mapping) and len(keys) < _DEPTH:
        [(name, found)] = found.items()
        keys.append(name)
    return keys
