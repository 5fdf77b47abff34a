"""URL and body templates with placeholders such as `{question}`. No clock, no I/O."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

PARAMETER: Final = "[A-Za-z_][A-Za-z0-9_]*"
"""The name of a placeholder; other braces are literal."""
_SLASHES: Final = re.compile(r"[/\\]")
_PLACEHOLDER: Final = re.compile(rf"\{{({PARAMETER})\}}")


def placeholders(template: JsonValue) -> frozenset[str]:
    """Return the names of the placeholders in any string of the template."""
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
    """Return the template with its placeholders replaced; a value cannot escape its string."""
    match template:
        case str():
            return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
        case list():
            return [fill(item, values) for item in template]
        case dict():
            return {name: fill(item, values) for name, item in template.items()}
        case _:
            return template


def fill_url(template: str, values: Mapping[str, str]) -> str:
    """Return the URL with its placeholders replaced, percent-encoded (RFC 3986)."""
    return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), template)


def dot_segment_placeholders(template: str, values: Mapping[str, str]) -> frozenset[str]:
    """Return the placeholders that make a path segment `.` or `..`, which servers resolve even if encoded."""
    path = template.partition("?")[0]
    return frozenset[str]().union(
        *(placeholders(part) for part in path.split("/") if _has_dot_segment(fill(part, values)))
    )


def _has_dot_segment(filled: JsonValue) -> bool:
    """Return whether a filled path segment is `.` or `..`, or contains one after a slash."""
    return any(part in {".", ".."} for part in _SLASHES.split(str(filled)))
