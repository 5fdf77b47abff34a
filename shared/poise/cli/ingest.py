"""`poise ingest PATH…`: text and Markdown files into the corpus."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import err, out, print_json
from poise.cli.errors import EXIT_FAILED, async_command
from poise.cli.progress import ProgressBar, ProgressBars
from poise.cli.text import clean, plural
from poise.errors import SetupError, UnavailableError
from poise.ingestion.document_files import SUFFIXES, RejectedDocument, find_files, read_document
from poise.ingestion.publish import IDLE_TIMEOUT, IngestResult, IngestStage, IngestStatus, publish_and_wait

STATUSES: Final[tuple[IngestStatus, ...]] = ("new", "changed", "unchanged")


class IngestBars:
    """Draws the progress of an ingestion, a bar a stage."""

    def __init__(self, bars: ProgressBars) -> None:
        self._bars = bars
        self._by_stage: dict[IngestStage, ProgressBar] = {}

    def __call__(self, stage: IngestStage, done: int, total: int) -> None:
        """Start the bar of a stage, or advance it by one document."""
        if done:
            self._by_stage[stage].advance()
        else:
            self._by_stage[stage] = self._bars.add(stage, total)


def headline(result: IngestResult) -> str:
    """Return a summary such as `79 documents: 3 new, 76 unchanged`."""
    counts = ", ".join(f"{number} {status}" for status in STATUSES if (number := result.count(status)))
    return f"{plural(len(result.documents), 'document')}: {counts}" if counts else "no documents"


def to_json(result: IngestResult) -> str:
    """Return the result as JSON."""
    return json.dumps(
        {
            "documents": len(result.documents),
            **{status: result.count(status) for status in STATUSES},
            "indexed": result.indexed,
            "passages": result.passages,
            "refused": [{"name": item.name, "why": item.reason} for item in result.rejected],
            "waiting": result.pending,
            "epoch": result.epoch.encode() if result.epoch else None,
        },
        ensure_ascii=False,
    )


@async_command
async def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help=f"Files or folders ({SUFFIXES}).")],
    broker: BrokerOption = None,
    prefix: Annotated[str, typer.Option(help="Put before each id, such as handbook/.")] = "",
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all can be found.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Also publish unchanged documents.")] = False,
    idle_timeout: Annotated[
        float,
        typer.Option("--idle-timeout", metavar="SECONDS", help="Stop waiting if nothing was indexed for this long."),
    ] = IDLE_TIMEOUT,
    as_json: JsonOption = False,
) -> None:
    """Put text and Markdown files into the corpus. A document's id is its path relative to PATH."""
    found = find_files(paths, prefix)
    for rejected in found.rejected:
        _print_rejected(rejected)
    if not found.files:
        raise SetupError(_nothing(found.skipped))
    async with open_client(broker) as poise:
        with ProgressBars(err) as bars:
            result = await publish_and_wait(
                poise,
                ((file.id, read_document(file)) for file in found.files),
                ids={file.id for file in found.files},
                force=force,
                idle_timeout=idle_timeout if wait else None,
                on_progress=IngestBars(bars),
                on_rejected=_print_rejected,
            )
    result.rejected[:0] = found.rejected
    _conclude(result, wait=wait, idle_timeout=idle_timeout, as_json=as_json)


def _print_rejected(rejected: RejectedDocument) -> None:
    err.print(Text.assemble(("refused ", "yellow"), clean(str(rejected))), soft_wrap=True)


def _nothing(skipped: int) -> str:
    others = f" ({plural(skipped, 'file')} of other kinds)" if skipped else ""
    return f"nothing to ingest{others}: give files or folders with {SUFFIXES}"


def _conclude(result: IngestResult, *, wait: bool, idle_timeout: float, as_json: bool) -> None:
    if as_json:
        print_json(to_json(result))
    else:
        out.print(format_result(result, wait=wait), soft_wrap=True)
    if result.pending:
        raise UnavailableError(
            f"nothing was indexed for {idle_timeout:g} s, and {plural(len(result.pending), 'document')} wait: is a"
            " retrieval worker running (`poise status`)? Published documents stay, and are indexed when one runs"
        )
    if not result.documents:
        raise typer.Exit(EXIT_FAILED)


def format_result(result: IngestResult, *, wait: bool) -> Text:
    """Return the result as text for a person."""
    text = Text(headline(result), style="bold")
    if result.rejected:
        text.append(f", {len(result.rejected)} refused", style="yellow")
    if wait and result.indexed:
        text.append(f" · indexed as {plural(result.passages, 'passage')}", style="not bold")
    if result.epoch is not None and result.published and not wait:
        text.append(f"\npoise ask --min-epoch {result.epoch.encode()} …", style="not bold dim")
    return text
