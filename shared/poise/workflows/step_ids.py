"""Step ids: the name of a step and a hash of what is asked, so that they do not depend on what finishes first."""

import hashlib
import json
from collections import Counter
from typing import Final

from pydantic_core import to_json

HASH_DIGITS: Final = 8
"""Hexadecimal digits of a hash: it tells the steps of one run apart."""


_EMPTY_ARGUMENTS: Final = frozenset({b"null", b"[]"})
"""What is asked where nothing is; it is canonical."""


def request_digest(what: str, asked: bytes) -> str:
    """The hash of what is asked, of its JSON in canonical form: the order in which fields are written does not matter.

    Args:
        what: The kind of step.
        asked: JSON.
    """
    canonical = asked
    if asked not in _EMPTY_ARGUMENTS:
        canonical = json.dumps(json.loads(asked), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(b"%b\n%b" % (what.encode(), canonical), digest_size=HASH_DIGITS // 2).hexdigest()


def arguments_json(value: object) -> bytes:
    """What a function is given, as JSON; what has none (a client, a file) counts by its type alone."""
    return to_json(value, fallback=lambda other: type(other).__qualname__)


class StepNames:
    """Gives names out once: `a`, then `a.2`, `a.3`."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()

    def unique(self, name: str) -> str:
        """The name, with the number of its occurrence from the second on."""
        while True:
            self._given[name] += 1
            number = self._given[name]
            if number == 1:
                return name
            numbered = f"{name}.{number}"
            if numbered not in self._given:  # it may have been given out as a name of its own
                self._given[numbered] += 1
                return numbered
