"""A worker of Poise: `python -m tests.benchmarks.steps.poise_worker`, with settings as any tier has them."""

import asyncio
import logging

from poise.contracts.ask import Answer, Ask
from poise.messaging import Mesh, Tier
from poise.runs import Run, workflow
from poise.settings import MeshSettings
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

    async with Mesh(MeshSettings.load(), tier="orchestration") as mesh:
        serving = asyncio.create_task(mesh.serve(Tier("orchestration", {Ask: follow})))
        while not all(mesh.readiness().values()) and not serving.done():  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0.01)
        await serve(watch)
        mesh.stop.set()
        await serving


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls a group that is just being made an error
    asyncio.run(main())
