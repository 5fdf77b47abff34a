"""Watch: times steps from inside a workflow. Of the standard library alone, for it runs in others' environments too."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tests.benchmarks.subject import say

RESULT: Final = {"result": "x" * 186}
"""What every step returns."""
SIZE: Final = len(json.dumps(RESULT))
"""Bytes."""


class Watch:
    """What a worker's workflows do, and how long it took."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._steps: list[tuple[float, float]] = []
        self._cpu = time.process_time()

    async def follow(self, steps: int, step: Callable[[], Awaitable[Any]]) -> None:
        """Do so many steps, one after another."""
        for _ in range(steps):
            began = time.perf_counter()
            await step()
            self.note(began)

    def note(self, began: float) -> None:
        """A step that has just ended; any thread may say so."""
        self._steps.append((began, time.perf_counter()))

    def report(self) -> None:
        """Tell, and begin anew."""
        say("report", **summary(self._steps), cpu=time.process_time() - self._cpu)
        self.reset()


def summary(steps: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What each step took, and the time from the first one's begin to the last one's end, seconds."""
    wall = max((ended for _, ended in steps), default=0.0) - min((began for began, _ in steps), default=0.0)
    return {"took": [ended - began for began, ended in steps], "wall": wall}


async def serve(watch: Watch, run: Callable[[int, int], Awaitable[None]] | None = None) -> None:
    """Do what the lines of standard input say until they end.

    Args:
        watch: What is reported after each.
        run: What a line `workflows steps` has done first; None = that comes to the worker another way.
    """
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=listen, daemon=True).start()
    say("ready")
    while line := await lines.get():
        if run is not None:
            workflows, steps = (int(word) for word in line.split())
            await run(workflows, steps)
        watch.report()
