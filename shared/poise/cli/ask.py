"""`poise ask "…"`: a question, and what comes back."""

import sys
from typing import Annotated, Final

import typer

from poise.cli.answer_view import render
from poise.cli.connection import BrokerOption, JsonOption, connected
from poise.cli.console import err, out, print_json
from poise.cli.edge import asynchronous
from poise.contracts.ask import MAX_QUESTION_CHARS
from poise.contracts.topics import ASK_INTERACTIVE
from poise.errors import DeadlineExceededError, InvalidMessageError

STDIN: Final = "-"
BYTES_PER_CHAR: Final = 4
"""At most, in UTF-8."""


@asynchronous
async def ask(
    words: Annotated[list[str], typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")],
    broker: BrokerOption = None,
    timeout: Annotated[  # noqa: ASYNC109 - it goes with the message
        float, typer.Option(metavar="SECONDS", help="How long the answer is wanted.")
    ] = ASK_INTERACTIVE.deadlines.default,
    conversation: Annotated[str | None, typer.Option(help="Asks of one conversation are answered in order.")] = None,
    min_epoch: Annotated[
        str | None, typer.Option(metavar="EPOCH", help="What `poise ingest` returned: the answer knows what it put in.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask a question, and see the answer, its sources and how it came about."""
    question = from_stdin() if words == [STDIN] else " ".join(words)
    if not question.strip():
        raise InvalidMessageError("the question is empty: say what you want to know")
    async with connected(broker) as poise:
        with err.status("asking …"):
            try:
                answer = await poise.ask(question, timeout=timeout, conversation=conversation, min_epoch=min_epoch)
            except DeadlineExceededError as error:
                raise DeadlineExceededError(
                    f"{error} from {poise.settings.broker}: see with `poise status` whether every tier runs, or give it"
                    " longer with --timeout"
                ) from error
    if as_json:
        print_json(answer.encode().decode())
    else:
        out.print(render(answer))


def from_stdin() -> str:
    """The question on stdin.

    Raises:
        InvalidMessageError: It is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read(MAX_QUESTION_CHARS * BYTES_PER_CHAR + 1).decode()
    except UnicodeDecodeError as error:
        raise InvalidMessageError(f"question: what came on stdin is not UTF-8 (byte {error.start})") from error
