"""A bound on the values of a JSON document: parsed, each takes about 100 bytes, though only two in the text (`1,`)."""

import re
from itertools import islice
from typing import Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

MAX_VALUES: Final = 100_000
"""Values of one document; parsed, they take about 12 MB."""
_STRING: Final = rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)'
_TO_THE_NEXT: Final = re.compile(rb'(?:[^,\[{"]++|%b)*+(?:([,\[{])|\Z)' % _STRING, re.DOTALL)
"""Matches up to the next comma or opening bracket outside of strings, or up to the end; it always matches."""


def check_value_count(document: bytes | str, title: str) -> None:
    """Refuse a document with too many values, in linear time and before it is parsed.

    Args:
        document: JSON, possibly invalid.
        title: The name of the model, for the error.

    Raises:
        pydantic.ValidationError: There are more commas and opening brackets outside of strings than `MAX_VALUES`.
    """
    if len(document) <= MAX_VALUES:
        return
    raw = document.encode(errors="surrogatepass") if isinstance(document, str) else document
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= MAX_VALUES:  # the usual case, and fast
        return
    marks = (found for found in _TO_THE_NEXT.finditer(raw) if found[1])
    if any(islice(marks, MAX_VALUES, None)):
        error = PydanticCustomError("json_values", "has more than {most} values", {"most": MAX_VALUES})
        raise ValidationError.from_exception_data(title, [InitErrorDetails(type=error, loc=(), input=None)])
