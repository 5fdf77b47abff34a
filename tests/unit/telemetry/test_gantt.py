import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from poise.cli.gantt import TimeAxis, TimeSpan, draw_bar

AXIS = TimeAxis(0.0, 10.0, 10)


def draw(start: float, end: float, *, asked: float | None = None, note: str = "", axis: TimeAxis = AXIS) -> str:
    return draw_bar(axis, TimeSpan(start if asked is None else asked, start, end), "green", Text(note)).plain


@pytest.mark.parametrize(
    ("start", "end", "drawn"),
    [
        (0, 10, "██████████"),
        (2, 4, "  ██      "),
        (2, 4.5, "  ██▌     "),
        (2.5, 5, "  ▐██     "),
        (3, 3.01, "   ▏      "),
        (3.5, 4, "   ▐      "),
        (10, 10, "         ▏"),
        (-5, 20, "██████████"),
        (-5, -1, "▏         "),
    ],
)
def test_bar_has_a_resolution_of_an_eighth_of_a_cell(start: float, end: float, drawn: str) -> None:
    assert draw(start, end) == drawn


def test_wait_before_a_bar_is_drawn_lighter() -> None:
    assert draw(4, 8, asked=1) == " ░░░████  "


def test_axis_of_zero_length_shows_a_mark() -> None:
    assert draw(5, 5, axis=TimeAxis(5.0, 5.0, 4)) == "▏   "


@pytest.mark.parametrize(
    ("start", "end", "drawn"),
    [
        (0, 4, "████ 6 passages     "),  # to the right
        (15, 19, "    6 passages ████ "),  # to the left
        (1, 19, " ███ 6 passages ███ "),  # onto the bar
        (6, 18, "      █ 6 passa… █  "),  # truncated, because it fits nowhere
        (6, 12, "      ██████        "),  # too narrow for any text
    ],
)
def test_note_does_not_cover_the_bar(start: float, end: float, drawn: str) -> None:
    assert draw(start, end, note="6 passages", axis=TimeAxis(0.0, 20.0, 20)) == drawn


times = st.floats(-5, 15, allow_nan=False)


@given(st.lists(times, min_size=3, max_size=3), st.text("abc ", max_size=30), st.integers(1, 40))
def test_row_always_fills_its_cells(moments: list[float], note: str, cells: int) -> None:
    asked, start, end = sorted(moments)

    assert len(draw(start, end, asked=asked, note=note, axis=TimeAxis(0.0, 10.0, cells))) == cells
