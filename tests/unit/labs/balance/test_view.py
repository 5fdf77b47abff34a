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
def test_a_screen_fits_the_terminal_at_any_moment(until: float, size: tuple[int, int]) -> None:
    height, width = size
    lines = shown(act(until), height=height, width=width)
    assert len(lines) < height, "a line is left for the cursor"
    assert all(len(one) <= width for one in lines)
    assert not any("…" in one for one in lines), "nothing is cut off"


def test_before_the_first_answer_there_is_a_screen() -> None:
    lines = shown(Timeline(("steady", "second"), 0.0, 0.0, "Setting the stage", "Two variants."))
    assert any("Setting the stage" in one for one in lines)


def test_the_last_of_what_happened_is_shown_when_not_all_of_it_has_a_place() -> None:
    lines = "\n".join(shown(act(), height=20))
    assert "restored: second has recovered" in lines
    assert "you sets" not in lines
    assert "you sets" in "\n".join(shown(act(), height=60))


def test_the_screen_says_who_gets_how_much_and_how_well_it_answers() -> None:
    steady, second = (
        next(one for one in shown(act(100.0)) if one.strip().startswith(name) and "├" in one)
        for name in ("steady", "second")
    )
    assert "80 %" in steady.replace("\N{NO-BREAK SPACE}", " ")
    assert "20 %" in second.replace("\N{NO-BREAK SPACE}", " ")
    assert steady.index("●") > second.index("●"), "better is further right"


def test_a_mean_and_its_interval_stand_where_they_are() -> None:
    found = Sample(count=9, mean=0.5, low=0.25, high=1.0)
    assert whisker(found, 5) == "·├●─┤"
    assert whisker(Sample(count=1, mean=0.0, low=0.0, high=0.0), 5) == "●····"
    assert whisker(None, 5) == "·····"


def test_bars_and_blocks() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.0, 4) == "████"
    assert bar(2.0, 4) == "████"
    assert bar(0.0, 4) == "    "
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁ ▅█"


def test_without_a_terminal_there_are_lines() -> None:
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
