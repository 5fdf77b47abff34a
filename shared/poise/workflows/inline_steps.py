"""Inline steps: run a function inside a workflow, and encode its result as JSON."""

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
"""Cached type adapters. They are expensive to build, and a workflow may create types, so the number is limited."""
_ANY_ADAPTER: TypeAdapter[Any] = TypeAdapter(Any)


def result_adapter(function: Callable[..., Any], returns: Any) -> TypeAdapter[Any]:
    """Return the adapter of a function's result: of the given type, else of its return annotation."""
    return _adapter(returns if returns is not None else _return_annotation(function))


def _return_annotation(function: Callable[..., Any]) -> Any:
    named = function if inspect.isroutine(function) else type(function).__call__
    try:
        hint = get_type_hints(named).get("return", Any)
    except (NameError, TypeError):  # a partial, or a type that only type checkers import
        return Any
    return None.__class__ if hint is None else hint


@lru_cache(MAX_ADAPTERS)
def _adapter(result_type: Any) -> TypeAdapter[Any]:
    if result_type is Any:
        return _ANY_ADAPTER
    try:
        return TypeAdapter(result_type)
    except PydanticSchemaGenerationError as error:
        raise TerminalError(
            f"a step cannot return {result_type!r}, which cannot be written as JSON: {error}"
        ) from error


async def run_function(
    name: str, function: Callable[..., Any], args: tuple[object, ...], adapter: TypeAdapter[Any]
) -> bytes:
    """Call a function and return its result as JSON.

    Raises:
        EncodingError: The result cannot be written as JSON. The function is not called again: it may be costly.
    """
    if inspect.iscoroutinefunction(function):
        result = await function(*args)
    else:
        result = await asyncio.to_thread(function, *args)
        result = await result if inspect.isawaitable(result) else result
    return encode_value(f"the result of step {name}", result, adapter)
