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
    empty_result_means_written: bool = False
    """Whether an empty result means that the script stored a value, so that a full Redis has room again. False also for
    a script that writes but does not show this by its result, or whose writes need no memory."""
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())
