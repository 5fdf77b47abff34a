"""Script: a Lua script that Redis runs atomically."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

ScriptCall = tuple[str, Sequence[bytes | int]]
"""The arguments of one execution: the key, and the script's arguments."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script that the server runs atomically."""

    text: str
    writes: bool = False
    """Whether the script has written when it returns an empty result; shows that a full Redis has room again."""
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())
