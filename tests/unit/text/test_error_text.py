"""Messages never end without their reason: an exception without a text is named by its type."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from source_tree import source_files

from poise.text.error_text import error_message, error_with_type

ROOT: Final = Path(__file__).parents[3]
MAY_HAVE_NO_WORDS: Final = frozenset(
    {
        *("AssertionError", "BaseException", "CancelledError", "ConnectionError", "Exception", "HTTPError"),
        *("ImportError", "IncompleteReadError", "OSError", "RequestError", "RuntimeError", "TimeoutError"),
    }
)
"""Those that something else than Poise raises, and that may have none; Poise's own always say what happened."""
LOGGED_BY: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


@pytest.mark.parametrize(
    ("error", "words", "typed"),
    [
        (TimeoutError(), "TimeoutError", "TimeoutError"),
        (TimeoutError(" "), "TimeoutError", "TimeoutError"),
        (ValueError("no number"), "no number", "ValueError: no number"),
    ],
)
def test_error_text_is_never_empty(error: BaseException, words: str, typed: str) -> None:
    assert (error_message(error), error_with_type(error)) == (words, typed)


def caught(kind: ast.expr | None) -> Iterator[str]:
    """Yield the names of the caught exceptions."""
    match kind:
        case None:
            yield "BaseException"
        case ast.Tuple(elts=several):
            for one in several:
                yield from caught(one)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name


def is_told(node: ast.AST, error: str) -> bool:
    """Return whether a node formats an exception directly: in an f-string, by `str`, or as a log argument."""

    def is_it(value: ast.expr) -> bool:
        if isinstance(value, ast.BoolOp):
            return any(map(is_it, value.values))
        return isinstance(value, ast.Name) and value.id == error

    match node:
        case ast.FormattedValue(value=value, conversion=conversion):
            return conversion != ord("r") and is_it(value)
        case ast.Call(func=ast.Name(id="str"), args=args):
            return any(map(is_it, args))
        case ast.Call(func=ast.Attribute(attr=name), args=[ast.Constant(value=str(form)), *args]) if name in LOGGED_BY:
            return "%s" in form and any(map(is_it, args))
    return False


def told_as_it_is(source: str) -> Iterator[int]:
    """Yield the lines that format an exception which may have no text without `error_text`."""
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler) and handler.name and MAY_HAVE_NO_WORDS & {*caught(handler.type)}:
            yield from (node.lineno for node in ast.walk(handler) if is_told(node, handler.name))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [
        *(
            'print(f"{error}")',
            'print(f"{error or 1}")',
            'print(f"{error!s:.5}")',
            "str(error)",
            'log.info("%s", error)',
        ),
    ],
)
def test_unnamed_exception_text_is_found_in_source(line: str) -> None:
    assert [*told_as_it_is(f"try: pass\nexcept (KafkaError, TimeoutError) as error: {line}")] == [2]
    assert [*told_as_it_is(f"try: pass\nexcept SetupError as error: {line}")] == []


def never_nothing(source: str) -> Iterator[int]:
    """Yield the lines with a fallback for an exception, which is never used because an exception is always true."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BoolOp(op=ast.Or(), values=[ast.Name(id="error"), *_]):
                yield node.lineno


@pytest.mark.parametrize("found_in", [told_as_it_is, never_nothing])
def test_exceptions_with_empty_messages_are_written_with_their_type(found_in: Callable[[str], Iterator[int]]) -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for _, path in source_files() for line in found_in(path.read_text())]
    assert not found
