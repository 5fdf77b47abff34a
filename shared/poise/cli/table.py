"""Tables for a terminal: cells in columns, and below each row an optional note that spans the whole width. Pure.

`rich.table.Table` cannot span columns: a note in a cell would wrap within that column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

GAP = "  "


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    cells: tuple[str, ...]
    note: str = ""
    style: str = ""
    """The style of the first cell."""


def table(header: tuple[str, ...], rows: Sequence[Row]) -> Group:
    """Return a table with a header."""
    widths = [max(map(len, column)) for column in zip(header, *(row.cells for row in rows), strict=True)]
    lines: list[Text | Padding] = [_line(header, widths, "bold", "bold")]
    for row in rows:
        lines.append(_line(row.cells, widths, row.style, ""))
        if row.note:
            lines.append(Padding(Text(row.note, style="dim"), (0, 0, 0, len(GAP))))
    return Group(*lines)


def _line(cells: tuple[str, ...], widths: Sequence[int], first: str, rest: str) -> Text:
    line = Text()
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        padded = cell.ljust(width) if number < len(cells) - 1 else cell
        line.append(padded, style=rest if number else first)
        line.append(GAP if number < len(cells) - 1 else "")
    return line
