"""Renders a drill: a row for each failure, and below it how the answer reports it. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType

from poise.cli.answer_view import RUNG_STYLES
from poise.cli.table import Row, table
from poise.cli.text import clean, format_ms
from poise_labs.drill.runner import DrillOutcome

HEADER: Final = ("what fails", "asked", "rung", "passages", "after", "added")
LEGEND: Final = (
    "asked: questions asked before, new ones, or ones whose documents have changed since · passages: how they were "
    "found · after: the median time to the answer · added: compared with the first row"
)
NONE: Final = "-"
MAX_CELL_CHARS: Final = 200
"""Characters of a cell in a Markdown table."""


def drill_table(outcomes: Sequence[DrillOutcome]) -> RenderableType:
    """Return the table; the first outcome, in which nothing fails, is the baseline."""
    usual = outcomes[0].seconds
    return table(HEADER, [Row(cells(one, usual), answer_notes(one), _style(one)) for one in outcomes])


def markdown(outcomes: Sequence[DrillOutcome]) -> str:
    """Return the same as a Markdown table."""
    usual = outcomes[0].seconds
    header = (*HEADER, "the answer says")
    lines = [header, tuple("---" for _ in header)]
    lines += [(*cells(one, usual), shortened(answer_notes(one)).replace("|", "\\|") or NONE) for one in outcomes]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shortened(text: str) -> str:
    """Truncate a text to the width of a cell, at a word."""
    return text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS].rpartition(' ')[0]} …"


def cells(outcome: DrillOutcome, usual: float) -> tuple[str, ...]:
    """Return the cells of a row.

    Args:
        outcome: The answers of one scenario.
        usual: Seconds that an answer takes if nothing fails.
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
    """Return how the example answer reports the failure."""
    one = outcome.example
    if one.answer is None:
        return f"an error: {clean(one.error or '')}"
    answer = one.answer
    notes = [answer.reason, *answer.degraded]
    if answer.cached:
        notes.insert(0, f"cached, {answer.age or 0:.0f} s old")
    elif answer.rung == "variant":
        notes.insert(0, f"text of {answer.variant}")
    return clean("; ".join(part for part in notes if part))


def _style(outcome: DrillOutcome) -> str:
    answer = outcome.example.answer
    return RUNG_STYLES[answer.rung] if answer else "bold red"
