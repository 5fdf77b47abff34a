"""Local steps: a function of the workflow's own, and its result as JSON."""

import asyncio
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from poise.errors import TerminalError
from poise.rpc.encoding import encode_value

MAX_ADAPTERS: Final = 128
"""Types of results whose readers are kept: they are dear to make, and a workflow may make types of its own."""
_ANY_ADAPTER: TypeAdapter[Any] = TypeAdapter(Any)


def result_adapter(function: Callable[..., Any], returns: Any) -> TypeAdapter[Any]:
    """What reads and writes a function's result: of the type that is given, else of the one it is annotated with."""
    return _adapter(returns if returns is not None else _return_annotation(function))


def _return_annotation(function: Callable[..., Any]) -> Any:
    named = function if inspect.isroutine(function) else type(function).__call__
    try:
        hint = get_type_hints(named).get("return", Any)
    except (NameError, TypeError):  # a partial, or a type that is known to type checkers alone
        return Any
    return None.__class__ if hint is None else hint


@lru_cache(MAX_ADAPTERS)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind is Any:
        return _ANY_ADAPTER
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError as error:
        raise TerminalError(f"a step cannot return {kind!r}, which has no JSON: {error}") from error


async def run_function(
    name: str, function: Callable[..., Any], args: tuple[object, ...], adapter: TypeAdapter[Any]
) -> bytes:
    """Call a function, and write down what it returns.

    Raises:
        EncodingError: What it returns has no form in JSON. It is not called again for that: it may cost something.
    """
    if inspect.iscoroutinefunction(function):
        result = await function(*args)
    else:
        result = await asyncio.to_thread(function, *args)
        result = await result if inspect.isawaitable(result) else result
    return encode_value(f"the result of step {name}", result, adapter)
