"""Extracts the text of an API's response. Pure.

An empty response with status 200 is an error here; elsewhere it would go unnoticed.
"""

import json
from typing import Final

from jsonpointer import EndOfList, JsonPointerException, resolve_pointer
from pydantic import JsonValue, ValidationError

from poise.contracts.json_bounds import MAX_VALUES, check_value_count
from poise_services.integration.api_errors import ApiFailedError, ApiRefusedError, EmptyResponseError

MAX_TEXT_CHARS: Final = 100_000
"""Characters of a text, so that a reply fits into a record; a character takes six bytes there at most."""
_QUOTED_CHARS: Final = 80


def extract_text(answered: bytes, pointer: str | None, *, name: str, status: int = 200) -> str:
    """Return the text of a response.

    Args:
        answered: The response body, without secrets.
        pointer: The part to extract; None = the whole body, JSON or not.
        name: The integration's name.
        status: The HTTP status.

    Raises:
        EmptyResponseError: The response, or the part, is empty.
        ApiFailedError: There is a pointer, and the body is not JSON or has too many values.
        ApiRefusedError: It is too long for a reply.
    """
    whole = answered.decode(errors="replace").strip().strip("\ufeff\x00").strip()
    try:
        check_value_count(whole, "answer")
        said: JsonValue = json.loads(whole)
        empty = is_empty(said)
    except (ValueError, RecursionError) as error:  # what is nested too deep to be looked into is no JSON to us
        if pointer is not None and whole:
            many = f"more than {MAX_VALUES} values" if isinstance(error, ValidationError) else "what is no JSON"
            quoted = whole[:_QUOTED_CHARS]
            raise ApiFailedError(f"integration {name} answered {status} with {many}: {quoted!r}") from error
        said, empty = whole, is_empty(whole)
    if empty:
        raise EmptyResponseError(f"integration {name} answered {status} with nothing in it")
    if pointer is None:
        return _within_limit(whole, name)
    try:
        part = resolve_pointer(said, pointer)
    except JsonPointerException:
        part = EndOfList([])
    if isinstance(part, EndOfList):  # what `-` refers to in a list: RFC 6901, section 4
        raise EmptyResponseError(f"integration {name} answered {status} with nothing at {pointer}")
    if is_empty(part):
        raise EmptyResponseError(f"integration {name} answered {status} with nothing in it at {pointer}")
    return _within_limit(part if isinstance(part, str) else json.dumps(part, ensure_ascii=False), name)


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
        raise ApiRefusedError(
            f"integration {name} answered {len(text)} characters, more than {MAX_TEXT_CHARS}: let its pointer choose"
        )
    return text.encode(errors="replace").decode().strip()  # JSON can escape half a character, which no reply can hold
