"""`poise ask "…"`: ask a question and print the answer."""

import sys
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.live import Live

from poise.cli.answer_view import render_answer
from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import err, out, print_json
from poise.cli.errors import async_command
from poise.cli.stream_view import StreamView
from poise.client import Poise
from poise.contracts.ask import MAX_QUESTION_CHARS, Answer, Caching
from poise.contracts.topics import ASK_INTERACTIVE
from poise.errors import DeadlineExceededError, InvalidMessageError

STDIN: Final = "-"
FRAMES_PER_SECOND: Final = 20
"""Per second: about reading speed."""
BYTES_PER_CHAR: Final = 4
"""At most, in UTF-8."""


@dataclass(frozen=True, slots=True)
class AskOptions:
    """A question and its options."""

    question: str
    timeout: float
    conversation: str | None
    min_epoch: str | None
    cache: Caching | None
    workflow: str | None


@async_command
async def ask(
    words: Annotated[list[str], typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")],
    broker: BrokerOption = None,
    timeout: Annotated[  # noqa: ASYNC109 - it is sent with the message
        float, typer.Option(metavar="SECONDS", help="How long to wait for the answer.")
    ] = ASK_INTERACTIVE.deadlines.default,
    conversation: Annotated[
        str | None, typer.Option(help="Asks of the same conversation are answered in order.")
    ] = None,
    min_epoch: Annotated[
        str | None,
        typer.Option(
            metavar="EPOCH", help="The epoch that `poise ingest` printed: answer from an index that includes it."
        ),
    ] = None,
    *,
    workflow: Annotated[str | None, typer.Option(metavar="NAME", help="The workflow; default: `answer`.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="On a terminal: show the text while it is generated.")
    ] = True,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute the answer instead of taking it from the cache.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a question, and print the answer, its sources and how it was made."""
    question = read_stdin() if words == [STDIN] else " ".join(words)
    if not question.strip():
        raise InvalidMessageError("the question is empty: pass one as an argument")
    asked = AskOptions(question, timeout, conversation, min_epoch, "no-cache" if no_cache else None, workflow)
    async with open_client(broker) as poise:
        began = time.monotonic()
        try:
            answer = await (
                ask_and_stream(poise, asked)
                if stream and out.is_terminal and not as_json
                else ask_and_wait(poise, asked)
            )
        except DeadlineExceededError as error:
            raise DeadlineExceededError(
                f"{error} from {poise.settings.broker}: check with `poise status` that every tier runs, or wait longer"
                " with --timeout"
            ) from error
        waited = time.monotonic() - began
    if as_json:
        print_json(answer.encode().decode())
    else:
        out.print(render_answer(answer, waited))


async def ask_and_wait(poise: Poise, asked: AskOptions) -> Answer:
    """Ask, and return the answer."""
    with err.status("asking …"):
        return await poise.ask(
            asked.question,
            timeout=asked.timeout,
            conversation=asked.conversation,
            min_epoch=asked.min_epoch,
            cache=asked.cache,
            workflow=asked.workflow,
        )


async def ask_and_stream(poise: Poise, asked: AskOptions) -> Answer:
    """Ask, show the text while it is generated, erase it when the answer arrives, and return the answer."""
    words = StreamView()
    stream = poise.stream(
        asked.question,
        timeout=asked.timeout,
        conversation=asked.conversation,
        min_epoch=asked.min_epoch,
        cache=asked.cache,
        workflow=asked.workflow,
    )
    with Live(words, console=out, refresh_per_second=FRAMES_PER_SECOND, transient=True):
        async with aclosing(stream):
            async for item in stream:
                if isinstance(item, Answer):
                    return item
                words.take(item)
    raise AssertionError("a stream ends with its answer")


def read_stdin() -> str:
    """Return the question from stdin.

    Raises:
        InvalidMessageError: It is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read(MAX_QUESTION_CHARS * BYTES_PER_CHAR + 1).decode()
    except UnicodeDecodeError as error:
        raise InvalidMessageError(f"question: stdin is not UTF-8 (byte {error.start})") from error
