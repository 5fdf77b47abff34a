"""`poise trace RUN_ID`: a run as a tree with times, read from `poise.spans`; no collector is needed."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import typer
from pydantic import ValidationError

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import out, print_json
from poise.cli.errors import async_command
from poise.cli.trace_view import render_trace
from poise.contracts.message import Message
from poise.contracts.record import RunRecord
from poise.contracts.run_id import started_at
from poise.contracts.span import SpanRecord
from poise.contracts.topics import RECORDS, SPANS
from poise.errors import PoiseError
from poise.kafka.log_stream import Start
from poise.kafka.record import Position, Record
from poise.run_log.timeline import span_tree, time_shares
from poise.telemetry import semconv
from poise.worker.connection import MeshConnection

MessageT = TypeVar("MessageT", bound=Message)

LOOKS: Final = 4
"""Times to look for the spans of a run that has only just ended."""
BETWEEN_LOOKS: Final = 0.3
"""Seconds; workers write their spans every 0.2."""


@dataclass(frozen=True, slots=True)
class TracedRun:
    """What is known of a run."""

    spans: tuple[SpanRecord, ...]
    record: RunRecord | None
    """What orchestration wrote of it; None until it has finished."""


@async_command
async def trace(
    run_id: Annotated[str, typer.Argument(help="The run, as `poise ask` and an answer's `run_id` name it.")],
    broker: BrokerOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Show short sends too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A run as a tree with times: which tier was slow?"""
    async with open_client(broker) as poise:
        run = await find(poise.mesh, run_id.strip())
    if not run.spans:
        raise PoiseError(
            f"no span of run {run_id} in {SPANS.name}: check the id; spans are written within 200 ms, kept for a day,"
            " and not written at all with POISE_SPANS=false"
        )
    if as_json:
        print_json(json.dumps(summary(run_id, run), ensure_ascii=False))
    else:
        out.print(render_trace(run.spans, out.width, record=run.record, everything=everything))


async def find(mesh: MeshConnection, run_id: str) -> TracedRun:
    """Look a run up; again, for about a second, while it is not there or parts of it are missing."""
    skew, began = mesh.settings.clock_skew, started_at(run_id)
    start: Start = "beginning" if began is None else began - skew
    run = TracedRun((), None)
    written: dict[Position, Record] = {}
    recorded: list[Record] = []
    for look in range(LOOKS):
        await asyncio.sleep(BETWEEN_LOOKS if look else 0)
        looked_at = time.time()
        spans, records = await asyncio.gather(
            mesh.logs.lookups.read_key(SPANS.name, run_id, start=start),
            mesh.logs.lookups.read_key(RECORDS.name, run_id, start=start),
        )
        written |= {record.position: record for record in spans}
        recorded = records[-1:] or recorded
        run = TracedRun(tuple(_readable(SpanRecord, written.values())), next(_readable(RunRecord, recorded), None))
        if _whole(run.spans):
            break
        start = looked_at - skew  # what stood there before was looked at
    return run


def _whole(spans: Sequence[SpanRecord]) -> bool:
    """Whether all workers have written what they did: no parent is missing, each call handled, the run scored."""
    parents = {span.parent_id for span in spans}
    handled = all(span.span_id in parents for span in spans if span.name.startswith(semconv.call("")))
    scored = any(span.name == semconv.SCORE_RUN for span in spans)
    return scored and handled and all(root.span for root in span_tree(spans))


def _readable(of: type[MessageT], records: Iterable[Record]) -> Iterator[MessageT]:
    """The bodies of this form; what a newer version wrote, or somebody else, is passed over."""
    for record in records:
        try:
            yield of.parse(record.value or b"")
        except ValidationError:
            continue


def summary(run_id: str, run: TracedRun) -> dict[str, object]:
    """A run for machines; all times but a span's `start` are milliseconds."""
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
