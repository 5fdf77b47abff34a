from io import StringIO

import pytest
from balance_kit import act
from rich.console import Console

from poise.contracts.policy import Sample
from poise_labs.balance.timeline import Timeline
from poise_labs.balance.view import bar, event_line, screen, sparkline, status_line, whisker


def shown(timeline: Timeline, *, height: int = 24, width: int = 80) -> list[str]:
    written = StringIO()
    Console(file=written, width=width).print(screen(timeline, height=height, width=width))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("until", [1.0, 30.0, 80.0, 105.0, 150.0, 200.0])
@pytest.mark.parametrize("size", [(24, 80), (40, 100), (60, 132)])
def test_screen_always_fits_the_terminal(until: float, size: tuple[int, int]) -> None:
    height, width = size
    lines = shown(act(until), height=height, width=width)
    assert len(lines) < height, "a line is left for the cursor"
    assert all(len(one) <= width for one in lines)
    assert not any("…" in one for one in lines), "nothing is cut off"


def test_screen_is_shown_before_the_first_answer() -> None:
    lines = shown(Timeline(("steady", "second"), 0.0, 0.0, "Setting the stage", "Two variants."))
    assert any("Setting the stage" in one for one in lines)


def test_latest_events_are_shown_if_not_all_fit() -> None:
    lines = "\n".join(shown(act(), height=20))
    assert "restored: second has recovered" in lines
    assert "you sets" not in lines
    assert "you sets" in "\n".join(shown(act(), height=60))


def test_screen_shows_share_and_quality_of_each_variant() -> None:
    steady, second = (
        next(one for one in shown(act(100.0)) if one.strip().startswith(name) and "├" in one)
        for name in ("steady", "second")
    )
    assert "80 %" in steady.replace("\N{NO-BREAK SPACE}", " ")
    assert "20 %" in second.replace("\N{NO-BREAK SPACE}", " ")
    assert steady.index("●") > second.index("●"), "better is further right"


def test_whisker_draws_mean_and_interval() -> None:
    found = Sample(count=9, mean=0.5, low=0.25, high=1.0)
    assert whisker(found, 5) == "·├●─┤"
    assert whisker(Sample(count=1, mean=0.0, low=0.0, high=0.0), 5) == "●····"
    assert whisker(None, 5) == "·····"


def test_bar_and_sparkline_draw_values() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.0, 4) == "████"
    assert bar(2.0, 4) == "████"
    assert bar(0.0, 4) == "    "
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁ ▅█"


def test_events_are_printed_as_lines_without_a_terminal() -> None:
    timeline = act()
    assert [event_line(timeline, event).split()[0] for event in timeline.events] == [
        "0:00",
        "0:50",
        "1:35",
        "1:50",
        "3:00",
    ]
    assert "noticed: second answers worse" in event_line(timeline, timeline.events[2])
    assert "steady 50" in status_line(timeline)
