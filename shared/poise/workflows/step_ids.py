"""Step ids: a step's name and a hash of its request, so that they do not depend on the order of completion."""

import hashlib
import json
from collections import Counter
from typing import Final

from pydantic_core import to_json

HASH_DIGITS: Final = 8
"""Hexadecimal digits of a hash that distinguishes the steps of one run."""


_EMPTY_ARGUMENTS: Final = frozenset({b"null", b"[]"})
"""Requests without arguments; already canonical."""


def request_digest(kind: str, arguments: bytes) -> str:
    """Return the hash of a request's canonical JSON, in which the order of fields does not matter.

    Args:
        kind: The kind of step.
        arguments: The request as JSON.
    """
    canonical = arguments
    if arguments not in _EMPTY_ARGUMENTS:
        canonical = json.dumps(json.loads(arguments), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(b"%b\n%b" % (kind.encode(), canonical), digest_size=HASH_DIGITS // 2).hexdigest()


def arguments_json(value: object) -> bytes:
    """Return a function's arguments as JSON.

    A value without a JSON form (a client, a file) is replaced by its type's name.
    """
    return to_json(value, fallback=lambda other: type(other).__qualname__)


class StepNames:
    """Makes names unique within a run: `a`, then `a.2`, `a.3`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def unique(self, name: str) -> str:
        """Return the name, with the number of its occurrence from the second on."""
        while True:
            self._counts[name] += 1
            number = self._counts[name]
            if number == 1:
                return name
            numbered = f"{name}.{number}"
            if numbered not in self._counts:  # an earlier step may have this very name
                self._counts[numbered] += 1
                return numbered
