"""A worker of Poise: `python -m tests.benchmarks.steps.poise_worker`, with the settings of a tier."""

import asyncio
import logging

from poise.contracts.ask import Answer, Ask
from poise.settings import MeshSettings
from poise.worker.tier import Tier
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from tests.benchmarks.messaging.contestants import serve as serve_tier
from tests.benchmarks.steps.step_timer import RESULT, StepTimer, serve


async def main() -> None:
    """Serve workflows until standard input ends."""
    timer = StepTimer()

    async def nothing() -> dict[str, str]:
        return RESULT

    @workflow("bench")
    async def follow(run: Run, ask: Ask) -> Answer:
        await timer.run_steps(int(ask.question), lambda: run.step("nothing", nothing))
        return Answer(run_id=run.id, text="done", rung="primary")

    ready, stop = asyncio.Event(), asyncio.Event()
    tier = Tier("orchestration", {Ask: follow})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_tier(MeshSettings.load(), tier, ready.set, stop))
        await ready.wait()
        await serve(timer)
        stop.set()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs a group that is being created as an error
    asyncio.run(main())
