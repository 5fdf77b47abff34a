"""Draws one row of a Gantt chart: a bar, the wait before it, and a note where there is room."""

from dataclasses import dataclass
from typing import Final

from rich.text import Text

LEFT_BLOCKS: Final = " ▏▎▍▌▋▊▉"
"""By the eighths of a cell that the end of a bar fills."""
WAIT: Final = "░"
INSIDE_MARGIN: Final = 2
MIN_NOTE_CELLS: Final = 8
"""The minimum width of a truncated note."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The times of a row, unix seconds."""

    asked: float
    """The start of the wait; `start` if there was none."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """A range of time over a number of cells."""

    begin: float
    """Unix seconds."""
    end: float
    cells: int

    def eighths(self, at: float) -> int:
        """Return the position of a time in eighths of a cell, clamped to the axis."""
        span = self.end - self.begin
        share = (at - self.begin) / span if span > 0 else 0.0
        return round(min(1.0, max(0.0, share)) * self.cells * 8)


def draw_bar(axis: TimeAxis, stretch: TimeSpan, style: str, note: Text) -> Text:
    """Draw one row.

    Args:
        axis: The time axis.
        stretch: The times to draw.
        style: The bar's color.
        note: Text right of the bar, else left of it, else on the bar or the wait; truncated if it fits nowhere.
    """
    cells = [" "] * axis.cells
    wait, left, right = axis.eighths(stretch.asked), axis.eighths(stretch.start), axis.eighths(stretch.end)
    first, last = left // 8, max(left // 8, (right - 1) // 8)
    first, last = min(first, axis.cells - 1), min(last, axis.cells - 1)
    for cell in range(wait // 8, first):
        cells[cell] = WAIT
    for cell in range(first, last + 1):
        cells[cell] = "█"
    if last > first and right % 8:
        cells[last] = LEFT_BLOCKS[right % 8]
    if last == first:
        cells[first] = _thin(left % 8, right - left)
    elif left % 8 >= 4:  # noqa: PLR2004 - half a cell
        cells[first] = "▐"
    row = Text("".join(cells))
    row.stylize(style, first, last + 1)
    row.stylize("dim " + style, wait // 8, first)
    return _noted(row, (min(wait // 8, first), first, last + 1), style, note) if note else row


def _thin(offset: int, width: int) -> str:
    """Return the character of a bar that lies within one cell."""
    if width >= 7:  # noqa: PLR2004 - nearly a whole cell
        return "█"
    return "▐" if offset >= 4 and width >= 3 else LEFT_BLOCKS[max(1, width)]  # noqa: PLR2004 - eighths of a cell


def _noted(row: Text, cells_of: tuple[int, int, int], style: str, note: Text) -> Text:
    """Insert a note where it hides nothing.

    Args:
        row: The row with the bar.
        cells_of: The first cell of the wait, the first of the bar, and the first after it.
        style: The bar's color.
        note: The note.
    """
    outer, first, after = cells_of
    right, left = len(row) - after - 1, outer - 1
    worked, waited = after - first - 2 * INSIDE_MARGIN, first - outer - 2 * INSIDE_MARGIN
    most = max(right, left, worked, waited)
    if most < min(note.cell_len, MIN_NOTE_CELLS):
        return row
    note = note.copy()
    note.truncate(most, overflow="ellipsis")
    room = note.cell_len
    if room <= right:
        return _over(row, after + 1, note)
    if room <= left:
        return _over(row, outer - 1 - room, note)
    if room <= worked:
        return _over(row, (first + after - room) // 2 - 1, Text(f" {note.plain} ", f"black on {style}"))
    return _over(row, (outer + first - room) // 2 - 1, Text(f" {note.plain} ", style))


def _over(row: Text, at: int, text: Text) -> Text:
    return Text.assemble(row[:at], text, row[at + text.cell_len :])
