"""`poise demo`: start a mesh on this machine, ingest a corpus, ask three questions, and suggest next steps."""

import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from poise.cli.answer_view import render_answer
from poise.cli.console import err, out
from poise.cli.errors import async_command
from poise.cli.text import format_ms
from poise.client import Poise
from poise.contracts.ask import Answer
from poise.ingestion.publish import IngestResult
from poise.run_log.lookup import RunLog
from poise.run_log.timeline import span_tree, time_shares
from poise.settings import MeshSettings
from poise.stack.discovery import resolve_settings, running_broker
from poise.stack.stack import Stack
from poise.stack.state import DEFAULT_DIRECTORY
from poise.worker.connection import MeshConnection
from poise_labs.cli.corpus_stack import ingest_corpus, temporary_stack
from poise_labs.cli.sample_corpus import EXAMPLE_QUESTIONS

ANSWER_TIMEOUT: Final = 120.0
"""Seconds; on a slow machine the first answer waits for the corpus to be indexed."""

NEXT: Final = (
    ("poise up", "start the stack and leave it running, with what was ingested"),
    ('poise ask "…"', "ask your own question"),
    ("poise ingest docs/", "add your own text and Markdown files"),
    ("poise trace RUN", "see where an answer's time went"),
    ("poise scores", "see how well each variant answers"),
    ("poise balance", "see a variant get worse, and the mesh notice"),
    ("poise down", "stop it"),
)


@dataclass(slots=True)
class LapTimer:
    """Measures the parts of the time to the first answer, in seconds."""

    began: float = field(default_factory=time.monotonic)
    parts: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def lap(self, part: str) -> float:
        """Record the time since the last lap as this part, and return it."""
        now = time.monotonic()
        self.parts[part], self._last = now - self._last, now
        return self.parts[part]

    def summary(self) -> Text:
        """Return the time from the start to the first answer, and its parts."""
        parts = " + ".join(f"{part} {format_ms(seconds * 1000)}" for part, seconds in self.parts.items())
        return Text.assemble(
            ("First answer after ", "bold"),
            (format_ms(sum(self.parts.values()) * 1000), "bold green"),
            f" = {parts}",
        )


@async_command
async def demo(
    directory: Annotated[Path, typer.Option("--dir", help="The stack's data directory.")] = DEFAULT_DIRECTORY,
    *,
    act: Annotated[
        bool, typer.Option("--balance/--no-balance", help="Run the balance act at the end: about three minutes.")
    ] = True,
) -> None:
    """Start a stack, ingest a corpus, ask three questions; then run the balance act, which Ctrl-C ends."""
    times = LapTimer()
    async with demo_mesh(directory) as (found, stack), Poise(settings=found) as poise:
        times.lap("start")
        done = await ingest_corpus(poise)
        times.lap("ingest")
        first = await _answer(poise, EXAMPLE_QUESTIONS[0], done)
        times.lap("ask")
        await _show(poise.mesh, EXAMPLE_QUESTIONS[0], first)
        for question in EXAMPLE_QUESTIONS[1:]:
            await _show(poise.mesh, question, await _answer(poise, question, done))
        out.print(times.summary(), Text(), sep="\n")
        if act and stack is not None:
            await _balance(stack, poise)
        out.print(next_steps(command_name()))


@asynccontextmanager
async def demo_mesh(directory: Path) -> AsyncIterator[tuple[MeshSettings, Stack | None]]:
    """Yield the stack that runs in the directory, else start a temporary one."""
    broker = running_broker(directory)
    if broker is not None:
        err.print(Text.assemble(("✓ ", "green"), f"using the stack that runs in {directory} ({broker})"))
        yield resolve_settings(broker), None
        return
    async with temporary_stack(directory) as stack:
        yield resolve_settings(stack.broker), stack


async def _balance(stack: Stack, poise: Poise) -> None:
    from poise_labs.balance.scenario import BalancePlan  # noqa: PLC0415
    from poise_labs.cli.balance import run_balance  # noqa: PLC0415 - slow to import; the first answer does not need it

    line = "Now the balance act, about three minutes: Ctrl-C ends it, --no-balance skips it."
    out.print(Rule(style="dim"), Text(line, style="bold"), sep="\n")
    await run_balance(stack, poise, BalancePlan())
    out.print()


async def _answer(poise: Poise, question: str, done: IngestResult) -> Answer:
    with err.status(Text(f"asking: {question}")):
        return await poise.ask(question, timeout=ANSWER_TIMEOUT, min_epoch=done.epoch)


async def _show(mesh: MeshConnection, question: str, answer: Answer) -> None:
    out.print(Rule(style="dim"))
    out.print(Text.assemble(("  ? ", "bold cyan"), (question, "bold cyan")))
    out.print(render_answer(answer))
    out.print(Padding(Text(await time_by_tier(mesh, answer.run_id), style="dim"), (0, 2, 1, 2)))


async def time_by_tier(mesh: MeshConnection, run_id: str) -> str:
    """Return the time that a run took by tier: `by tier: inference 1.1 s · retrieval 21 ms · …`."""
    split = time_shares(span_tree((await RunLog(mesh.logs, mesh.settings.clock_skew).trace(run_id)).spans))
    if not split.tiers:
        return "by tier: unknown, because spans are not written"
    parts = [f"{tier or 'unknown'} {format_ms(seconds * 1000)}" for tier, seconds in split.tiers.items()]
    between = sum(split.waiting.values()) + split.transit
    return f"by tier: {' · '.join(parts)} · queues and transport {format_ms(between * 1000)}"


def next_steps(command: str) -> Text:
    """Return what to try next.

    Args:
        command: How the command line was started, `poise` or a path.
    """
    width = max(len(example) for example, _ in NEXT)
    text = Text("What to try next", style="bold")
    if command != "poise":
        text.append(f"  (poise is {command} here)", style="not bold dim")
    for example, why in NEXT:
        text.append(f"\n  {example.ljust(width)}", style="not bold cyan")
        text.append(f"   {why}", style="not bold dim")
    return text


def command_name() -> str:
    """Return how the command line was started: `poise` if it is on the PATH, else its relative path."""
    if shutil.which("poise"):
        return "poise"
    path = Path(sys.argv[0])
    return os.path.relpath(path) if path.name == "poise" else f"{os.path.relpath(sys.executable)} -m poise"
