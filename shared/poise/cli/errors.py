"""Errors of commands: one line on stderr and an exit code. Also runs async commands."""

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
"""The input was refused, so a retry cannot succeed. Typer uses the same code for wrong options."""

_OF_THE_MOMENT: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


def async_command(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an async function a command. Ctrl-C cancels it, so that it can clean up."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # The error is reported once, by `report_error`.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        return asyncio.run(command(*args, **kwargs))

    return run


def report_error(error: Exception) -> int | None:
    """Print an error to stderr in one line.

    Returns:
        The exit code; None if nothing was printed, because the error is not one of Poise's.
    """
    if isinstance(error, ValidationError):
        error = InvalidMessageError.of(error)
    if not isinstance(error, PoiseError):
        return None
    err.print(Text.assemble(("poise: ", "bold red"), message_line(error)), soft_wrap=True)
    return exit_code(error)


def message_line(error: PoiseError) -> str:
    """Return an error's message on one line, without control characters; a fault names the refused fields."""
    text = str(error)
    if isinstance(error, FaultError):
        fields = "; ".join(f"{item.field}: {item.detail}" for item in error.fault().errors)
        text = f"{error.fault().title}: {fields}" if fields else text
    return " ".join(clean(text).split())


def exit_code(error: PoiseError) -> int:
    """Return 2 if the input was refused, else 1."""
    status = error.fault().status
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _OF_THE_MOMENT
    return EXIT_INVALID if refused else EXIT_FAILED
