"""Extracts the text of an API's response. No clock, no I/O.

An empty response with status 200 is an error here; elsewhere it would go unnoticed.
"""

import json
from typing import Final

from jsonpointer import EndOfList, JsonPointerException, resolve_pointer
from pydantic import JsonValue, ValidationError

from poise.contracts.json_bounds import MAX_VALUES, check_value_count
from poise_services.integration.api_errors import ApiFailedError, ApiRefusedError, EmptyResponseError

MAX_TEXT_CHARS: Final = 100_000
"""Maximum characters of a text, so that the reply fits into a record; a character takes at most six bytes there."""
_QUOTED_CHARS: Final = 80


def extract_text(body: bytes, pointer: str | None, *, name: str, status: int = 200) -> str:
    """Return the text of a response.

    Args:
        body: The response body, without secrets.
        pointer: JSON Pointer to the part to extract; None = the whole body, JSON or not.
        name: The integration's name.
        status: The HTTP status.

    Raises:
        EmptyResponseError: The response, or the part, is empty.
        ApiFailedError: There is a pointer, and the body is not JSON or has too many values.
        ApiRefusedError: It is too long for a reply.
    """
    text = body.decode(errors="replace").strip().strip("\ufeff\x00").strip()
    try:
        check_value_count(text, "answer")
        value: JsonValue = json.loads(text)
        empty = is_empty(value)
    except (ValueError, RecursionError) as error:  # JSON that is nested too deeply is treated as text
        if pointer is not None and text:
            problem = (
                f"more than {MAX_VALUES} values" if isinstance(error, ValidationError) else "a body that is not JSON"
            )
            quoted = text[:_QUOTED_CHARS]
            raise ApiFailedError(f"integration {name} answered {status} with {problem}: {quoted!r}") from error
        value, empty = text, is_empty(text)
    if empty:
        raise EmptyResponseError(f"integration {name} answered {status} with nothing in it")
    if pointer is None:
        return _within_limit(text, name)
    try:
        selected = resolve_pointer(value, pointer)
    except JsonPointerException:
        selected = EndOfList([])
    if isinstance(selected, EndOfList):  # what `-` refers to in a list: RFC 6901, section 4
        raise EmptyResponseError(f"integration {name} answered {status} with nothing at {pointer}")
    if is_empty(selected):
        raise EmptyResponseError(f"integration {name} answered {status} with nothing in it at {pointer}")
    return _within_limit(selected if isinstance(selected, str) else json.dumps(selected, ensure_ascii=False), name)


def is_empty(value: JsonValue) -> bool:
    """Return whether a value is empty: null, white space, or a list or object of empty values only."""
    match value:
        case None:
            return True
        case str():
            return not value.strip()
        case list():
            return all(map(is_empty, value))
        case dict():
            return all(map(is_empty, value.values()))
        case _:
            return False


def _within_limit(text: str, name: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        size = f"{len(text)} characters, more than {MAX_TEXT_CHARS}"
        raise ApiRefusedError(f"integration {name} answered {size}: select a part by its pointer")
    return text.encode(errors="replace").decode().strip()  # JSON can escape a lone surrogate, which UTF-8 cannot encode
