"""A worker of the chaos test: `python chaos_worker.py TIER FILE`. It writes a line to the file before each handling.

The orchestration worker calls inference once for each ask. Both take some milliseconds.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from poise.contracts import Answer, Ask, Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

TAKES = 0.003
"""Seconds of a handling."""


class HandlingLog:
    """The handlings of this process, one line each: `seconds topic/partition/offset id`. A kill loses no line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def note(self, context: Context, id_: str) -> None:
        os.write(self._file, f"{time.time():.3f} {context.record.position} {id_}\n".encode())


async def main() -> None:
    """Serve until asked to stop, or killed."""
    name, handled = sys.argv[1], HandlingLog(Path(sys.argv[2]))

    async def answer(ask: Ask, context: Context) -> Answer:
        handled.note(context, ask.question)
        await asyncio.sleep(TAKES)
        request = Generate(messages=(ChatMessage(role="user", content=ask.question),))
        written = await context.call(request, step="generate")
        return Answer(run_id=context.run, text=written.text, rung="primary")

    async def generate(request: Generate, context: Context) -> Completion:
        handled.note(context, request.messages[0].content)
        await asyncio.sleep(TAKES)
        return Completion(text=request.messages[0].content, model="m", backend="b", finish_reason="stop")

    tiers = {
        "orchestration": Tier("orchestration", {Ask: answer}),
        "inference": Tier("inference", {Generate: generate}),
    }
    async with WorkerRuntime(MeshSettings.load(), tier=name) as mesh:
        await mesh.serve(tiers[name])


if __name__ == "__main__":
    run(main)
