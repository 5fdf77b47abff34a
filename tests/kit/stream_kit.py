"""A tier that streams its text, and a reader that records what it gets."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from integration_kit import WITHIN

from poise.contracts import Completion, Delta, Generate, Reset
from poise.contracts.generate import ChatMessage
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

PIECES = ["Because ", "nobody ", "asked ", "before."]
TEXT = "".join(PIECES)


def generate(text: str = "why?") -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=text),))


def completion(text: str = TEXT) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


async def write(_request: Generate, context: Context) -> Completion:
    for piece in PIECES:
        if context.stream_writer is not None:
            await context.stream_writer.write(piece)
    return completion()


class StreamReading:
    """A stream read to its end: the text shown, the resets and all items."""

    def __init__(self) -> None:
        self.shown = ""
        self.resets: list[Reset] = []
        self.items: list[object] = []

    async def read_all(self, stream: AsyncIterator[object]) -> Any:
        async with asyncio.timeout(WITHIN):
            async for item in stream:
                self.items.append(item)
                if isinstance(item, Delta):
                    self.shown += item.text
                elif isinstance(item, Reset):
                    self.resets.append(item)
                    self.shown = ""
                else:
                    last = item
        assert self.items[-1] is last  # the reply is the last item
        return last


def run_of(mesh: WorkerRuntime) -> str:
    return f"{mesh.settings.instance}-{time.time_ns()}"
