"""`poise balance`: a variant gets worse without errors; the mesh decreases its weight, and restores it on recovery."""

import asyncio
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from poise.cli.console import err, out
from poise.cli.errors import async_command
from poise.client import Poise
from poise.contracts.policy import Decision
from poise.contracts.topics import POLICY
from poise.errors import SetupError
from poise.stack.discovery import resolve_settings, running_broker
from poise.stack.stack import Stack
from poise.stack.state import DEFAULT_DIRECTORY
from poise_labs.balance.environment import FAULTY, STEADY, deployed, policy_spec
from poise_labs.balance.load import LoadGenerator
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.picture import svg
from poise_labs.balance.questions import QUESTIONS
from poise_labs.balance.scenario import BalancePlan, BalanceScenario
from poise_labs.balance.summary import summary_lines
from poise_labs.balance.timeline import Timeline
from poise_labs.cli.balance_screen import live_view
from poise_labs.cli.corpus_stack import ingest_corpus, temporary_stack

POLICY_NAME: Final = "balance"
ANSWER_TIMEOUT: Final = 60.0
"""Seconds to wait for an answer: the act keeps a small machine busy."""
SCORE_TIMEOUT: Final = 20.0
"""Seconds to wait for an answer's score before the next ask."""
INDEX_TIMEOUT: Final = 120.0
WARM_UP_QUESTION: Final = "What is a lambda expression?"
TITLE: Final = 13
"""Columns of the title of a summary line."""
INTERRUPTED: Final = "Interrupted"


@async_command
async def balance(
    directory: Annotated[
        Path, typer.Option("--dir", help="The stack's data directory; a temporary one if a stack already runs there.")
    ] = DEFAULT_DIRECTORY,
    *,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write a picture of the run to this file.")
    ] = None,
    without_fault: Annotated[
        bool, typer.Option("--without-fault", help="Run the same load without a fault: no weight should move.")
    ] = False,
) -> None:
    """Show the loop: a variant gets worse without errors, and the mesh moves weight away because of its answers alone.

    It takes about three minutes on two cores. Ctrl-C ends it and prints the summary so far.
    """
    with _directory(directory) as chosen:
        async with temporary_stack(chosen) as stack, Poise(settings=resolve_settings(stack.broker)) as poise:
            done = await ingest_corpus(poise)
            with err.status("indexing the corpus …"):
                await poise.ask(WARM_UP_QUESTION, timeout=INDEX_TIMEOUT, min_epoch=done.epoch, cache="no-store")
            await run_balance(stack, poise, BalancePlan(fault=not without_fault), picture=picture)


@contextmanager
def _directory(directory: Path) -> Iterator[Path]:
    """Yield the directory; or a temporary one if a stack already runs there, whose workers must not be restarted."""
    if running_broker(directory) is None:
        yield directory
        return
    err.print(Text(f"a stack already runs in {directory}: starting a temporary one for the act", style="dim"))
    with tempfile.TemporaryDirectory(prefix="poise-balance-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def run_balance(stack: Stack, poise: Poise, plan: BalancePlan, *, picture: Path | None = None) -> Timeline:
    """Run the act on a stack whose corpus is indexed, and show it.

    Returns:
        The observations.
    """
    policy, now = await unused_policy_name(poise), time.time()
    timeline = Timeline((STEADY, FAULTY), began=now, now=now)
    async with BalanceObserver(poise.mesh, timeline, policy) as observer:
        load = LoadGenerator(partial(_ask, poise, observer), QUESTIONS)

        async def act() -> None:
            async with deployed(stack, policy) as proxy:
                await BalanceScenario(poise.mesh, observer, load, policy_spec(policy), proxy.set_fault, plan).run()

        timeline.headline = "Setting the stage"
        timeline.story = "Two variants of the answer workflow are deployed, both without a fault."
        async with live_view(timeline):
            finished = await _until_interrupted(act())
    if not finished:
        timeline.headline = INTERRUPTED
    lines = summary_lines(timeline, observer.decisions, failed=load.failed)
    out.print(Text(), *map(_hanging, lines), Text(), next_steps(observer.decisions, policy, stack), sep="\n")
    if picture is not None:
        _draw(timeline, picture)
    return timeline


def _hanging(line: str) -> RenderableType:
    """Return a line of the summary, with wrapped text indented beside its title."""
    title, text = line[:TITLE].strip(), line[TITLE:]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=TITLE - 1)
    table.add_column()
    table.add_row(Text(title, style="bold"), Text(text))
    return table


def next_steps(decisions: Sequence[Decision], policy: str, stack: Stack) -> Text:
    """Return commands to try next; the decisions are in the stack's data directory."""
    moved = next((one.id for one in decisions if one.by == "loop"), None)
    folder = stack.options.directory
    up = "poise up --detach" + ("" if folder == DEFAULT_DIRECTORY else f" --dir {folder}")
    steps = [(up, "start the stack again")]
    steps += [(f"poise policy explain {moved}", "why the weights moved")] if moved else []
    steps += [(f"poise policy replay {policy}", "reproduce the decisions from the logs")]
    width = max(len(command) for command, _ in steps)
    return Text("\n").join(
        Text.assemble((command.ljust(width), "cyan"), (f"   {why}", "dim")) for command, why in steps
    )


def _draw(timeline: Timeline, picture: Path) -> None:
    try:
        picture.write_text(svg(timeline), encoding="utf-8")
    except OSError as error:
        raise SetupError(f"the picture cannot be written to {picture}: {error.strerror}") from error
    err.print(Text.assemble(("✓ ", "green"), f"wrote {picture}"))


async def _ask(poise: Poise, observer: BalanceObserver, question: str) -> None:
    """Ask, and wait for the score, so that a machine which scores slowly does not show outdated evidence."""
    answer = await poise.ask(question, timeout=ANSWER_TIMEOUT, cache="no-store")
    await observer.scored(answer.run_id, seconds=SCORE_TIMEOUT)


async def unused_policy_name(poise: Poise) -> str:
    """Return an unused policy name, so that each act starts without history."""
    taken = {(record.key or b"").decode(errors="replace") for record in await poise.mesh.logs.read_topic(POLICY.name)}
    names = (POLICY_NAME if number == 1 else f"{POLICY_NAME}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


async def _until_interrupted(act: Coroutine[Any, Any, None]) -> bool:
    """Run the act until its end or Ctrl-C; return whether it reached its end."""
    task = asyncio.create_task(act)
    with _cancel_on_interrupt(task) as interrupted:
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()  # if the caller was cancelled; a finished task ignores it
            await asyncio.gather(task, return_exceptions=True)
    if task.cancelled() and interrupted.is_set():
        return False
    task.result()
    return True


@contextmanager
def _cancel_on_interrupt(task: "asyncio.Task[None]") -> Iterator[asyncio.Event]:
    """Let Ctrl-C cancel only a task; the yielded event is set then."""
    interrupted, loop, before = asyncio.Event(), asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)

    def stop() -> None:
        interrupted.set()
        task.cancel()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
