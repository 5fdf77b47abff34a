"""A worker of Restate: `python -m tests.benchmarks.steps.restate_worker PORT`, in its own environment."""

import asyncio
import logging
import sys
from typing import Any

import restate
from hypercorn.asyncio import serve as hypercorn
from hypercorn.config import Config

from tests.benchmarks.steps.step_timer import RESULT, StepTimer, serve


async def main(port: str) -> None:
    """Serve workflows until standard input ends."""
    timer, stop = StepTimer(), asyncio.Event()

    async def nothing() -> dict[str, str]:
        return RESULT

    async def follow(context: Any, steps: int) -> None:
        await timer.run_steps(steps, lambda: context.run_typed("nothing", nothing))

    service = restate.Service("bench")
    follow.__annotations__["context"] = restate.Context
    service.handler()(follow)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    server = asyncio.create_task(hypercorn(restate.app([service]), config, shutdown_trigger=stop.wait))
    await serve(timer)
    stop.set()
    await server


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(sys.argv[1]))
