"""Shows the act while it runs: a live screen on a terminal, plain lines elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from poise.cli.console import out
from poise_labs.balance.timeline import Timeline
from poise_labs.balance.view import event_line, screen, status_line

FRAMES_PER_SECOND: Final = 2
"""Per second."""
STATUS_INTERVAL: Final = 25
"""Answers between two status lines, without a terminal."""
POLL_INTERVAL: Final = 0.5
"""Seconds between two updates."""


@asynccontextmanager
async def live_view(timeline: Timeline) -> AsyncIterator[None]:
    """Show the act while it runs; on a terminal the last screen stays."""

    def now() -> RenderableType:
        return screen(timeline, height=out.height, width=out.width)

    updating = asyncio.create_task(_clock(timeline) if out.is_terminal else _lines(timeline))
    try:
        if out.is_terminal:
            with Live(get_renderable=now, console=out, refresh_per_second=FRAMES_PER_SECOND):
                yield
        else:
            yield
    finally:
        updating.cancel()
        await asyncio.gather(updating, return_exceptions=True)
    timeline.now = time.time()
    if not out.is_terminal:
        out.print(Text(status_line(timeline)), soft_wrap=True)


async def _clock(timeline: Timeline) -> None:
    while True:
        timeline.now = time.time()
        await asyncio.sleep(POLL_INTERVAL)


async def _lines(timeline: Timeline) -> None:
    printed, counted, headline = 0, 0, ""
    while True:
        timeline.now = time.time()
        if timeline.headline != headline:
            headline = timeline.headline
            out.print(Text(f"{headline}: {timeline.story}"), soft_wrap=True)
        for mark in timeline.events[printed:]:
            out.print(Text(event_line(timeline, mark)), soft_wrap=True)
            printed += 1
        if len(timeline.answers) >= counted + STATUS_INTERVAL:
            counted = len(timeline.answers)
            out.print(Text(status_line(timeline)), soft_wrap=True)
        await asyncio.sleep(POLL_INTERVAL)
