from contextlib import nullcontext
from io import StringIO

import pytest
from rich.console import Console

from poise.contracts import Answer
from poise_labs.cli.drill_view import answer_notes, cells, drill_table, markdown
from poise_labs.drill.runner import DrillAnswer, DrillOutcome
from poise_labs.drill.scenarios import NOTHING, SCENARIOS, DrillScenario


def answer(**fields: object) -> Answer:
    return Answer.model_validate({"run_id": "r", "text": "Yes.", "rung": "primary", "retrieval": "hybrid"} | fields)


def outcome(*answers: Answer | None, seconds: float = 1.0, fails: str = "a part") -> DrillOutcome:
    scenario = DrillScenario(fails, lambda _: nullcontext())
    asked = tuple(DrillAnswer("Why?", seconds, one, None if one else "it is gone") for one in answers)
    return DrillOutcome(scenario, asked)


USUAL = DrillOutcome(NOTHING, (DrillAnswer("Why?", 0.4, answer()),))


def test_row_shows_the_most_frequent_answer_and_the_added_latency() -> None:
    down = answer(rung="extractive", reason="the model is away")
    found = outcome(down, down, answer(), seconds=0.9)
    assert cells(found, 0.4) == ("a part", "before", "extractive 2/3, primary 1/3", "hybrid", "900 ms", "+500 ms")
    assert answer_notes(found) == "the model is away"


def test_faster_scenario_has_a_negative_latency_difference_and_the_first_row_none() -> None:
    assert cells(outcome(answer(), seconds=0.1), 0.4)[-1] == "−300 ms"
    assert cells(USUAL, USUAL.seconds)[-1] == "-"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            answer(rung="stale", cached=True, age=93.2, reason="lamps has changed"),
            "cached, 93 s old; lamps has changed",
        ),
        (answer(rung="variant", variant="b", reason="a failed"), "text of b; a failed"),
        (answer(degraded=["retrieval: no vector"]), "retrieval: no vector"),
        (answer(), ""),
        (None, "an error: it is gone"),
    ],
)
def test_answer_notes_describe_the_answer(given: Answer | None, said: str) -> None:
    assert answer_notes(outcome(given)) == said


def test_failed_answers_are_shown_as_none() -> None:
    assert cells(outcome(None), 1.0)[2:4] == ("none", "-")


def test_table_fits_a_terminal_and_markdown_has_a_row_for_each_scenario() -> None:
    every = [USUAL, *(DrillOutcome(one, (DrillAnswer("Why?", 12.34, answer(rung="extractive")),)) for one in SCENARIOS)]
    written = StringIO()
    Console(file=written, width=80).print(drill_table(every))
    assert len(written.getvalue().splitlines()) == len(every) + 1, "no row wraps"
    assert len(markdown(every).splitlines()) == len(every) + 2
