"""Renders an answer for a terminal: its text, its sources and how it was made."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.cli.text import clean, format_duration, format_ms
from poise.contracts.ask import Answer, Citation

MAX_QUOTE_CHARS: Final = 280
TOTAL: Final = "total"

RUNG_STYLES: Final = {
    "primary": "green",
    "variant": "green",
    "stale": "yellow",
    "extractive": "yellow",
    "canned": "red",
}
RETRIEVAL_WARNINGS: Final = {
    "lexical": "passages were found by sparse search only",
    "cached": "passages are of an earlier search",
}
"""Said where nothing else says why."""


def render_answer(answer: Answer, waited: float | None = None) -> RenderableType:
    """Render an answer for a terminal.

    Args:
        answer: The answer.
        waited: Seconds that its reader waited for it; None = as long as its run took.
    """
    return Group(
        Text(),
        Padding(Text(clean(answer.text).strip(), style="bold"), (0, 2)),
        Text(),
        *_sources(answer.citations),
        Padding(provenance_line(answer, waited), (0, 2)),
        *(Padding(line, (0, 2)) for line in warning_lines(answer)),
        Padding(Text.assemble(("where its time went: ", "dim"), f"poise trace {clean(answer.run_id)}"), (0, 2)),
    )


def provenance_line(answer: Answer, waited: float | None = None) -> Text:
    """Return one line: the rung, the reason if it is not the first, the variant, the age and the times."""
    line = Text(style="dim")
    line.append(answer.rung, style=f"not dim {RUNG_STYLES[answer.rung]}")
    if answer.reason:
        line.append(f" ({clean(answer.reason)})", style=f"not dim {RUNG_STYLES[answer.rung]}")
    if answer.variant:
        line.append(f" · {clean(answer.variant)}")
    if answer.cached:
        line.append(
            f" · {_age(answer)}", style=f"not dim {RUNG_STYLES['stale'] if answer.rung == 'stale' else 'green'}"
        )
    if answer.timings or waited is not None:
        total = {} if waited is None else {TOTAL: waited * 1_000}
        line.append(f" · {timings_line({**answer.timings, **total})}")
    return line


def _age(answer: Answer) -> str:
    """Return the age of an answer that was computed for an earlier or a concurrent ask."""
    age = answer.age or 0.0
    return f"from the cache, {format_duration(age)} old" if age >= 1 else "just worked out for another ask"


def warning_lines(answer: Answer) -> Iterator[Text]:
    """Yield a line for each degradation that the reason does not state already."""
    for warning in answer.degraded:
        yield Text.assemble(("! ", "yellow"), (" ".join(clean(warning).split()), "dim"))
    if answer.retrieval in RETRIEVAL_WARNINGS and not answer.degraded:
        yield Text.assemble(("! ", "yellow"), (RETRIEVAL_WARNINGS[answer.retrieval], "dim"))


def timings_line(timings: Mapping[str, float]) -> str:
    """Return the times of a run: `1.24 s = retrieve 21 ms + generate 1.2 s + the rest 19 ms`."""
    steps = {clean(step): ms for step, ms in timings.items() if step != TOTAL}
    total = timings.get(TOTAL)
    parts = [f"{step} {format_ms(ms)}" for step, ms in steps.items()]
    if total is None:
        return " + ".join(parts)
    rest = total - sum(steps.values())
    if parts and rest >= 0.05 * total:
        parts.append(f"the rest {format_ms(rest)}")
    return f"{format_ms(total)} = {' + '.join(parts)}" if parts else format_ms(total)


def _sources(citations: tuple[Citation, ...]) -> Iterator[RenderableType]:
    if not citations:
        return
    rows = Table.grid(padding=(0, 1))
    rows.add_column(justify="right", style="cyan", no_wrap=True)
    rows.add_column()
    for number, citation in enumerate(citations, 1):
        rows.add_row(str(number), Text(" ".join(clean(citation.source).split()), style="cyan"))
        if quote := format_quote(citation.quote):
            rows.add_row("", Text(quote, style="italic dim"))
    yield Padding(rows, (0, 2))
    yield Text()


def format_quote(text: str) -> str:
    """Return a quoted passage on one line; a long one is cut between words."""
    line = " ".join(clean(text).split())
    if len(line) > MAX_QUOTE_CHARS:
        line = line[:MAX_QUOTE_CHARS].rpartition(" ")[0] + " …"
    return f"\N{LEFT DOUBLE QUOTATION MARK}{line}\N{RIGHT DOUBLE QUOTATION MARK}" if line else ""
