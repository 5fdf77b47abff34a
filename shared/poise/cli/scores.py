"""`poise scores`: how well each variant answers, as evaluation has scored it."""

import json
import re
import time
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import out, print_json
from poise.cli.errors import async_command
from poise.cli.scores_view import LEGEND, scores_table
from poise.cli.text import plural
from poise.contracts.fault import FieldError
from poise.errors import InvalidMessageError
from poise.run_log.lookup import RunLog
from poise.scoring.summary import VariantSummary, summarize_by_variant

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


@async_command
async def scores(
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 1h, 7d.")] = "7d",
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show how well each variant answers: groundedness, failures and times of all finished runs."""
    seconds = parse_period(since)
    async with open_client(broker) as poise:
        summaries = summarize_by_variant(
            await RunLog(poise.mesh.logs, poise.mesh.settings.clock_skew).scores(time.time() - seconds)
        )
    if as_json:
        print_json(json.dumps([_plain(summary) for summary in summaries]))
    elif summaries:
        out.print(scores_table(summaries))
        runs = sum(summary.runs for summary in summaries)
        out.print(Text(f"\n{plural(runs, 'run')} of the last {since} · {LEGEND}", style="dim"))
    else:
        out.print(f"no run of the last {since} was scored: ask something, and see that an evaluation worker runs")


def parse_period(text: str) -> float:
    """Parse a duration such as `30m`, `1h` or `7d`; return seconds.

    Raises:
        InvalidMessageError: It is not a duration.
    """
    found = _SPAN.fullmatch(text.strip())
    if not found:
        detail = f"{text!r} is not a duration: write 30m, 1h or 7d"
        raise InvalidMessageError(f"--since: {detail}", [FieldError(field="--since", detail=detail)])
    return float(found[1]) * UNITS[found[2]]


def _plain(summary: VariantSummary) -> dict[str, Any]:
    """Return a summary as JSON values. The interval of a single run is infinite, so its ends are null."""
    plain = asdict(summary)
    for estimate in plain["values"].values():
        if estimate["count"] == 1:
            estimate["low"] = estimate["high"] = None
    return plain
