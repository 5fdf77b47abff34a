"""`poise trace RUN_ID`: the spans of a run as a tree with times, read from `poise.spans`; no collector is needed."""

import json
from typing import Annotated

import typer

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import out, print_json
from poise.cli.errors import async_command
from poise.cli.trace_view import render_trace
from poise.contracts.topics import SPANS
from poise.errors import PoiseError
from poise.run_log.lookup import RunLog
from poise.run_log.run_trace import RunTrace
from poise.run_log.timeline import span_tree, time_shares


@async_command
async def trace(
    run_id: Annotated[str, typer.Argument(help="The run's id, as `poise ask` and an answer's `run_id` show it.")],
    broker: BrokerOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also show short sends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the spans of a run as a tree with times: which tier was slow?"""
    async with open_client(broker) as poise:
        run = await RunLog(poise.mesh.logs, poise.mesh.settings.clock_skew).trace(run_id.strip())
    if not run.spans:
        raise PoiseError(
            f"no span of run {run_id} in {SPANS.name}: check the id; spans are written within 200 ms and"
            " retained for a day; with POISE_SPANS=false none are written"
        )
    if as_json:
        print_json(json.dumps(run_summary(run_id, run), ensure_ascii=False))
    else:
        out.print(render_trace(run.spans, out.width, record=run.record, everything=everything))


def run_summary(run_id: str, run: RunTrace) -> dict[str, object]:
    """Return a run as JSON values; all times except a span's `start` are milliseconds."""
    split = time_shares(span_tree(run.spans))
    return {
        "run_id": run_id,
        "question": run.record.question if run.record else None,
        "total_ms": round(split.total * 1000, 3),
        "tiers_ms": {tier: round(seconds * 1000, 3) for tier, seconds in split.tiers.items()},
        "queues_ms": {tier: round(seconds * 1000, 3) for tier, seconds in split.waiting.items()},
        "transit_ms": round(split.transit * 1000, 3),
        "spans": [span.model_dump(exclude_none=True) for span in sorted(run.spans, key=lambda span: span.start)],
    }
