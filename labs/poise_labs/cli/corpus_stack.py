"""A temporary stack for one command, with the demo's corpus."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.text import Text

from poise.cli.console import err
from poise.cli.ingest import IngestBars, headline
from poise.cli.progress import ProgressBars
from poise.cli.stack_view import event_printer
from poise.cli.text import format_ms, plural
from poise.client import Poise
from poise.errors import UnavailableError
from poise.ingestion.publish import IngestResult, publish_and_wait
from poise.stack.events import StackEvent
from poise.stack.options import Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.cli.sample_corpus import corpus


@asynccontextmanager
async def temporary_stack(directory: Path) -> AsyncIterator[Stack]:
    """Run a stack within the context; after its start, print only failures."""
    began, report, up = time.monotonic(), event_printer(err), False

    def on_event(event: StackEvent) -> None:
        if not up or event.state == "failed":
            report(event)

    options = StackOptions(
        directory=directory, ports=Ports(gateway=0)
    )  # not the default port, which another stack may use
    stack = Stack(options, on_event=on_event)
    with err.status("starting the stack …"):
        await stack.start()
    took = format_ms((time.monotonic() - began) * 1000)
    err.print(Text.assemble(("✓ ", "green"), ("the stack is up", "bold"), (f"  {took}", "dim")))
    up = True
    try:
        yield stack
    finally:
        with err.status("stopping the stack …"):
            await stack.stop()
        err.print(Text("stopped; nothing is left running", style="dim"))


async def ingest_corpus(poise: Poise) -> IngestResult:
    """Ingest the corpus, and return the result.

    Raises:
        UnavailableError: Some documents could not be indexed.
    """
    documents = corpus()
    began = time.monotonic()
    with ProgressBars(err) as bars:
        done = await publish_and_wait(poise, documents.items(), ids=set(documents), on_progress=IngestBars(bars))
    if done.pending or not done.documents:
        raise UnavailableError(
            f"{plural(len(done.pending), 'document')} of the corpus could not be indexed: see the log of the retrieval"
            " worker (`poise status` names it)"
        )
    took = format_ms((time.monotonic() - began) * 1000)
    passages = f", {plural(done.passages, 'passage')}" if done.passages else ""
    line = f"Python's language reference: {headline(done)}{passages}"
    err.print(Text.assemble(("✓ ", "green"), (line, "bold"), (f"  {took}", "dim")))
    return done
