"""How many values a JSON document may have: read, each takes some 100 bytes, be it two in the text (`1,`, `[]`)."""

import re
from itertools import islice
from typing import Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

MAX_VALUES: Final = 100_000
"""In one document: read, they take some 12 MB."""
_STRING: Final = rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)'
_TO_THE_NEXT: Final = re.compile(rb'(?:[^,\[{"]++|%b)*+(?:([,\[{])|\Z)' % _STRING, re.DOTALL)
"""Up to the next comma or opening bracket that is in no string, or to the end: it always matches."""


def check_value_count(document: bytes | str, title: str) -> None:
    """Refuse a document that has more values than are read, in linear time and before it is parsed.

    Args:
        document: JSON, or what should be.
        title: What it is read as.

    Raises:
        pydantic.ValidationError: It has more commas and opening brackets outside of strings than `MAX_VALUES`.
    """
    if len(document) <= MAX_VALUES:
        return
    raw = document.encode(errors="surrogatepass") if isinstance(document, str) else document
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= MAX_VALUES:  # almost always, and in no time
        return
    marks = (found for found in _TO_THE_NEXT.finditer(raw) if found[1])
    if any(islice(marks, MAX_VALUES, None)):
        error = PydanticCustomError("json_values", "has more than {most} values", {"most": MAX_VALUES})
        raise ValidationError.from_exception_data(title, [InitErrorDetails(type=error, loc=(), input=None)])
