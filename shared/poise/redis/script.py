"""Script: what Redis runs as one step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

ScriptCall = tuple[str, Sequence[bytes | int]]
"""What a script is run with: a key, and arguments."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script that the server runs as one step: nobody sees or changes the key in the middle of it."""

    text: str
    writes: bool = False
    """Whether it has put something in when it returns nothing."""
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())
