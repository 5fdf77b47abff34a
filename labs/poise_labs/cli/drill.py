"""`poise drill`: stop one part after another of a temporary mesh, and show the answers that callers get."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from poise.cli.connect import JsonOption
from poise.cli.console import err, out, print_json
from poise.cli.errors import async_command
from poise.cli.stack_view import event_printer
from poise.cli.text import plural
from poise_labs.cli.drill_view import LEGEND, answer_notes, drill_table, markdown
from poise_labs.cli.sample_corpus import corpus
from poise_labs.drill import SCENARIOS, DrillEnvironment, DrillOutcome, run_drill


@async_command
async def drill(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="WORDS", help="Only scenarios whose name contains this text.")
    ] = None,
    *,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop one part after another of a temporary mesh, and show the answers that callers get.

    A running stack is not affected: the drill's mesh runs in a temporary directory.
    """
    chosen = [one for one in SCENARIOS if not only or any(words in one.fails for words in only)]
    outcomes: list[DrillOutcome] = []
    with tempfile.TemporaryDirectory(prefix="poise-drill-", ignore_cleanup_errors=True) as folder:
        with err.status("starting a mesh, and indexing a corpus …"):
            environment = await DrillEnvironment(Path(folder), corpus(), on_event=event_printer(err)).__aenter__()
        try:
            async for outcome in run_drill(environment, chosen):
                outcomes.append(outcome)
                err.print(
                    Text.assemble(
                        ("✓ ", "green"), f"{outcome.scenario.fails}: {plural(len(outcome.asked), 'question')}"
                    )
                )
        finally:
            with err.status("stopping the mesh …"):
                await environment.__aexit__()
    if as_json:
        print_json(json.dumps([_as_json(outcome) for outcome in outcomes]))
    elif as_markdown:
        out.print(markdown(outcomes), soft_wrap=True, markup=False, highlight=False)
    else:
        out.print(Text(), drill_table(outcomes), Text(), Text(LEGEND, style="dim"), sep="\n")


def _as_json(outcome: DrillOutcome) -> dict[str, Any]:
    return {
        "fails": outcome.scenario.fails,
        "questions": outcome.scenario.questions,
        "rungs": dict(outcome.rungs),
        "seconds": outcome.seconds,
        "says": answer_notes(outcome),
        "answers": [
            {
                "question": one.question,
                "seconds": one.seconds,
                "error": one.error,
                "answer": one.answer and one.answer.model_dump(mode="json", exclude_none=True),
            }
            for one in outcome.asked
        ],
    }
