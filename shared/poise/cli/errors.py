"""The edge of the command line: async commands, their exit codes, and errors as one line for a person."""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, ParamSpec, TypeVar

from pydantic import ValidationError
from rich.text import Text

from poise.cli.console import err
from poise.cli.text import clean
from poise.errors import FaultError, InvalidMessageError, PoiseError

P = ParamSpec("P")
T = TypeVar("T")

EXIT_FAILED: Final = 1
EXIT_INVALID: Final = 2
"""What was given is refused: trying again is no use. Typer's own code for wrong options."""

_OF_THE_MOMENT: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


def async_command(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an async function a command; Ctrl-C cancels it, so that it cleans up."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # What goes wrong is said once, in our words, by whoever catches the error.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        return asyncio.run(command(*args, **kwargs))

    return run


def report_error(error: Exception) -> int | None:
    """Say on stderr what went wrong, in one line.

    Returns:
        The exit code; None if nothing was said, because it is no error that Poise raises on purpose.
    """
    if isinstance(error, ValidationError):
        error = InvalidMessageError.of(error)
    if not isinstance(error, PoiseError):
        return None
    err.print(Text.assemble(("poise: ", "bold red"), message_line(error)), soft_wrap=True)
    return exit_code(error)


def message_line(error: PoiseError) -> str:
    """What an error says, on one line and harmless to a terminal; a fault names the fields that it refuses."""
    text = str(error)
    if isinstance(error, FaultError):
        fields = "; ".join(f"{item.field}: {item.detail}" for item in error.fault().errors)
        text = f"{error.fault().title}: {fields}" if fields else text
    return " ".join(clean(text).split())


def exit_code(error: PoiseError) -> int:
    """2 if what was given is refused, else 1."""
    status = error.fault().status
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _OF_THE_MOMENT
    return EXIT_INVALID if refused else EXIT_FAILED
