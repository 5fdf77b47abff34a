"""A worker of Poise: `python -m tests.benchmarks.steps.poise_worker`, with settings as any tier has them."""

import asyncio
import logging

from poise.contracts.ask import Answer, Ask
from poise.settings import MeshSettings
from poise.worker.tier import Tier
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from tests.benchmarks.messaging.contestants import serve as serve_tier
from tests.benchmarks.steps.watch import RESULT, Watch, serve


async def main() -> None:
    """Serve workflows until standard input ends."""
    watch = Watch()

    async def nothing() -> dict[str, str]:
        return RESULT

    @workflow("bench")
    async def follow(run: Run, ask: Ask) -> Answer:
        await watch.follow(int(ask.question), lambda: run.step("nothing", nothing))
        return Answer(run_id=run.id, text="done", rung="primary")

    ready, stop = asyncio.Event(), asyncio.Event()
    tier = Tier("orchestration", {Ask: follow})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_tier(MeshSettings.load(), tier, ready.set, stop))
        await ready.wait()
        await serve(watch)
        stop.set()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls a group that is just being made an error
    asyncio.run(main())
