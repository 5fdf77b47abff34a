"""Template: an address or a body with places in braces, `{question}`, which values are filled into. Pure."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

PARAMETER: Final = "[A-Za-z_][A-Za-z0-9_]*"
"""What may stand in braces; other braces are braces."""
_SLASHES: Final = re.compile(r"[/\\]")
_PLACEHOLDER: Final = re.compile(rf"\{{({PARAMETER})\}}")


def placeholders(template: JsonValue) -> frozenset[str]:
    """The names that stand in braces, in any of its strings."""
    match template:
        case str():
            return frozenset(_PLACEHOLDER.findall(template))
        case list():
            return frozenset[str]().union(*map(placeholders, template))
        case dict():
            return frozenset[str]().union(*map(placeholders, template.values()))
        case _:
            return frozenset()


def fill(template: JsonValue, values: Mapping[str, str]) -> JsonValue:
    """The template with its places filled in; a value stays inside its string, whatever is in it."""
    match template:
        case str():
            return _PLACEHOLDER.sub(lambda place: values[place[1]], template)
        case list():
            return [fill(item, values) for item in template]
        case dict():
            return {name: fill(item, values) for name, item in template.items()}
        case _:
            return template


def fill_url(template: str, values: Mapping[str, str]) -> str:
    """The address with its places filled in, percent-encoded (RFC 3986): a value cannot leave its place."""
    return _PLACEHOLDER.sub(lambda place: quote(values[place[1]], safe=""), template)


def dot_segment_placeholders(template: str, values: Mapping[str, str]) -> frozenset[str]:
    """The places in an address's path that make a step of it, `.` or `..`: servers read these, however encoded."""
    path = template.partition("?")[0]
    return frozenset[str]().union(
        *(placeholders(part) for part in path.split("/") if _has_dot_segment(fill(part, values)))
    )


def _has_dot_segment(filled: JsonValue) -> bool:
    """Whether a part of a path, with its places filled in, is a step, or holds one behind a slash of its own."""
    return any(part in {".", ".."} for part in _SLASHES.split(str(filled)))
