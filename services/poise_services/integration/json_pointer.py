"""JSON Pointer (RFC 6901). Pure."""

import re
from typing import Final

from pydantic import JsonValue

_INDEX: Final = re.compile("0|[1-9][0-9]{0,8}")


def resolve(document: JsonValue, pointer: str) -> JsonValue:
    """Return the value that a pointer refers to.

    Args:
        document: The document.
        pointer: Empty for all of it, or `/name/0/name`, where `~1` stands for `/` and `~0` for `~`.

    Raises:
        LookupError: There is no such value.
    """
    found = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        match found:
            case dict():
                found = found[name]
            case list() if _INDEX.fullmatch(name):
                found = found[int(name)]
            case _:
                raise LookupError(pointer)
    return found
