"""A stack for as long as a command lasts, and the demo's corpus in it."""

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
    """A stack that is started for as long as this lasts; once it is up, it tells of what fails alone."""
    began, tell, up = time.monotonic(), event_printer(err), False

    def hear(event: StackEvent) -> None:
        if not up or event.state == "failed":
            tell(event)

    options = StackOptions(directory=directory, ports=Ports(gateway=0))  # it takes no port that others know
    stack = Stack(options, on_event=hear)
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
    """Have the corpus ingested.

    Raises:
        UnavailableError: Some of it could not be indexed.
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
    parts = f", {plural(done.parts, 'passage')}" if done.parts else ""
    said = f"Python's language reference: {headline(done)}{parts}"
    err.print(Text.assemble(("✓ ", "green"), (said, "bold"), (f"  {took}", "dim")))
    return done
