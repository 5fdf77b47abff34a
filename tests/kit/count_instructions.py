"""Counts the instructions of each public text function on hostile texts of growing length; prints JSON lines.

Must run under callgrind: see `callgrind.command`. The arguments are a folder for the counts and names of functions.
"""

import gc
import json
import logging
import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper, cache
from pathlib import Path
from typing import Any, Final

from callgrind import Counter
from hostile_text_kinds import kinds_of
from hostile_texts import Shape, shapes
from text_functions import FUNCTIONS, Reader

from poise.errors import PoiseError

SIZES: Final = (300, 1_200, 4_800, 19_200)
"""Text lengths in characters; each is four times the one before."""
ENOUGH: Final = 200_000
"""Number of instructions that makes the fixed cost of a call negligible."""
TOO_MANY: Final = 20_000_000
"""With more instructions than this, no larger text is tried to tell a single step from superlinear growth."""
MOST: Final = 2.5**2
"""Maximum ratio of instructions for a text of four times the length."""
ERRORS: Final = (PoiseError, ValueError, LookupError)


def is_superlinear(counts: list[int]) -> bool:
    """Return whether the instructions grew faster than the text over the last two sizes."""
    before, last = counts[-2:]
    return last > MOST * max(before, ENOUGH / 2)


class MeasuredFunction:
    """One function on one shape of text."""

    def __init__(self, counter: Counter, reader: Reader, shape: Shape) -> None:
        self._counter = counter
        self._reader = reader
        self._shape = shape

    def counts(self) -> list[int]:
        """Return the instructions for texts of growing size.

        Stop when there are enough instructions to compare and they grow no faster than the text. A function that takes
        another path above some size has a single step there: only growth over the last two sizes counts.
        """
        found: list[int] = []
        for size in SIZES:
            found.append(self._count(size))
            if len(found) > 1 and found[-1] >= (TOO_MANY if is_superlinear(found) else ENOUGH):
                break
        return found

    def _count(self, size: int) -> int:
        for remembering in _remembering():
            remembering.cache_clear()
        return self._counter.of(self._reader, _text(self._shape, size), ERRORS)


@cache
def _text(shape: Shape, size: int) -> str:
    return shape(size)


@cache
def _remembering() -> "list[_lru_cache_wrapper[Any]]":
    """Return the caches of Poise's functions; each count clears them, so that no text is found in one."""
    found = [one for one in gc.get_objects() if isinstance(one, _lru_cache_wrapper)]
    ours = [one for one in found if str(one.__module__).startswith(("poise.", "poise_services.", "poise_labs."))]
    assert ours
    return ours


def counted(folder: Path, wanted: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """Yield the instruction counts, case by case."""
    _remembering()  # before the counter freezes the objects, which hides them from this search
    counter = Counter(folder)
    for name, readers in FUNCTIONS.items():
        if name not in (wanted or FUNCTIONS):
            continue
        for number, reader in enumerate(readers):
            counter.of(reader, "warm up", ERRORS)
            for shape, make in shapes(*kinds_of(name)).items():
                counts = MeasuredFunction(counter, reader, make).counts()
                yield {"function": name, "case": f"{number}, {shape}", "counts": counts}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for found in counted(Path(sys.argv[1]), tuple(sys.argv[2:])):
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
