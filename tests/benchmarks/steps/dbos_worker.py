"""A worker of DBOS: `python -m tests.benchmarks.steps.dbos_worker URL plain|async`, in its own environment."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS

from tests.benchmarks.steps.step_timer import RESULT, StepTimer, serve


def plain(timer: StepTimer) -> Callable[[int], Any]:
    """Return a workflow of plain functions, which DBOS runs in threads: its faster form."""

    def nothing() -> dict[str, str]:
        return RESULT

    step = DBOS.step()(nothing)

    def follow(steps: int) -> None:
        for _ in range(steps):
            began = time.perf_counter()
            step()
            timer.record(began)

    workflow = DBOS.workflow()(follow)
    return lambda steps: asyncio.to_thread(DBOS.start_workflow, workflow, steps)


def coroutines(timer: StepTimer) -> Callable[[int], Any]:
    """Return a workflow of async functions."""

    async def nothing() -> dict[str, str]:
        return RESULT

    step = DBOS.step()(nothing)

    async def follow(steps: int) -> None:
        await timer.run_steps(steps, step)

    workflow = DBOS.workflow()(follow)
    return lambda steps: DBOS.start_workflow_async(workflow, steps)


async def main(url: str, form: str) -> None:
    """Run workflows as requested by the lines of standard input."""
    timer = StepTimer()
    begin = {"plain": plain, "async": coroutines}[form](timer)

    async def run(workflows: int, steps: int) -> None:
        handles = await asyncio.gather(*(begin(steps) for _ in range(workflows)))
        for handle in handles:
            await (handle.get_result() if form == "async" else asyncio.to_thread(handle.get_result))

    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    await serve(timer, run)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
