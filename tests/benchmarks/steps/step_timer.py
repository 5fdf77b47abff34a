"""Times steps from inside a workflow. Uses only the standard library, as it also runs in other environments."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tests.benchmarks.worker_process import say

RESULT: Final = {"result": "x" * 186}
"""The result of every step."""
SIZE: Final = len(json.dumps(RESULT))
"""Its size in bytes."""


class StepTimer:
    """Collects the durations of the steps of a worker's workflows."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Discard all durations."""
        self._steps: list[tuple[float, float]] = []
        self._cpu = time.process_time()

    async def run_steps(self, steps: int, step: Callable[[], Awaitable[Any]]) -> None:
        """Run that number of steps, one after another."""
        for _ in range(steps):
            began = time.perf_counter()
            await step()
            self.record(began)

    def record(self, began: float) -> None:
        """Record a step that has just ended; safe in any thread."""
        self._steps.append((began, time.perf_counter()))

    def report(self) -> None:
        """Write the report and reset the timer."""
        say("report", **summary(self._steps), cpu=time.process_time() - self._cpu)
        self.reset()


def summary(steps: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the seconds of each step, and those from the start of the first to the end of the last."""
    wall = max((ended for _, ended in steps), default=0.0) - min((began for began, _ in steps), default=0.0)
    return {"took": [ended - began for began, ended in steps], "wall": wall}


async def serve(timer: StepTimer, run: Callable[[int, int], Awaitable[None]] | None = None) -> None:
    """Execute the lines of standard input until it ends.

    Args:
        timer: Reports after each line.
        run: Runs the workflows of a line `workflows steps`; None = they are started from outside.
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
        timer.report()
