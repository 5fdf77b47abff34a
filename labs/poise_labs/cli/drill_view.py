"""A drill on a screen: a row for each part that fails, and below it how the answer says so. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType

from poise.cli.answer_view import RUNG_STYLES
from poise.cli.table import Row, table
from poise.cli.text import clean, format_ms
from poise_labs.drill.runner import DrillOutcome

HEADER: Final = ("what fails", "asked", "rung", "passages", "after", "added")
LEGEND: Final = (
    "asked: questions that were asked before, new ones, or such whose documents changed since · passages: how they "
    "were found · after: the median time to the answer · added: to that of the first row"
)
NONE: Final = "-"
LONGEST: Final = 200
"""Characters of a cell in a page."""


def drill_table(outcomes: Sequence[DrillOutcome]) -> RenderableType:
    """The table; the first outcome is the one in which nothing fails, which the others are compared with."""
    usual = outcomes[0].seconds
    return table(HEADER, [Row(cells(one, usual), answer_notes(one), _style(one)) for one in outcomes])


def markdown(outcomes: Sequence[DrillOutcome]) -> str:
    """The same as a table of a page."""
    usual = outcomes[0].seconds
    header = (*HEADER, "the answer says")
    lines = [header, tuple("---" for _ in header)]
    lines += [(*cells(one, usual), shortened(answer_notes(one)).replace("|", "\\|") or NONE) for one in outcomes]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shortened(text: str) -> str:
    """As much of a sentence as a table bears."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} …"


def cells(outcome: DrillOutcome, usual: float) -> tuple[str, ...]:
    """The cells of a row.

    Args:
        outcome: What the askers got.
        usual: Seconds that an answer takes when nothing fails.
    """
    answer, total = outcome.example.answer, len(outcome.asked)
    rungs = [rung if count == total else f"{rung} {count}/{total}" for rung, count in outcome.rungs.items()]
    added = (outcome.seconds - usual) * 1_000
    return (
        outcome.scenario.fails,
        outcome.scenario.questions,
        ", ".join(rungs),
        (answer.retrieval if answer else None) or NONE,
        format_ms(outcome.seconds * 1_000),
        NONE if outcome.seconds == usual else f"{'+' if added > 0 else '−'}{format_ms(abs(added))}",
    )


def answer_notes(outcome: DrillOutcome) -> str:
    """How the answer that stands for most says what happened."""
    one = outcome.example
    if one.answer is None:
        return f"an error: {clean(one.error or '')}"
    answer = one.answer
    said = [answer.reason, *answer.degraded]
    if answer.cached:
        said.insert(0, f"cached, {answer.age or 0:.0f} s old")
    elif answer.rung == "variant":
        said.insert(0, f"words of {answer.variant}")
    return clean("; ".join(part for part in said if part))


def _style(outcome: DrillOutcome) -> str:
    answer = outcome.example.answer
    return RUNG_STYLES[answer.rung] if answer else "bold red"
