"""A worker of the inference tier as a separate process that tests stop and kill.

    python paying_worker.py FOLDER

A step writes `paid` in the folder when it begins. It waits for a file `go`, and then writes `ended`.
"""

import asyncio
import sys
from pathlib import Path

from poise.contracts import Completion, Generate
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier


async def main() -> None:
    folder = Path(sys.argv[1])

    async def pay(_request: Generate, _context: Context) -> Completion:
        with (folder / "paid").open("a") as paid:
            paid.write("x")
        while not (folder / "go").exists():  # noqa: ASYNC110 - another process creates it
            await asyncio.sleep(0.02)
        (folder / "ended").touch()
        return Completion(text="the process", model="m", backend="b", finish_reason="stop")

    tier = Tier("inference", {Generate: pay})
    async with WorkerRuntime(MeshSettings.load(), tier=tier.name) as mesh:
        await mesh.serve(tier)


if __name__ == "__main__":
    run(main)
