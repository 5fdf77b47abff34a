"""The act where it is shown: a screen that is drawn anew, or plain lines where there is no terminal."""

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

FRAMES: Final = 2
"""A second."""
EVERY: Final = 25
"""Answers between two lines on how things stand, where there is no terminal."""
LOOK: Final = 0.5
"""Seconds between two looks at the timeline."""


@asynccontextmanager
async def live_view(timeline: Timeline) -> AsyncIterator[None]:
    """Show the act while it is played; on a terminal the last screen stays."""

    def now() -> RenderableType:
        return screen(timeline, height=out.height, width=out.width)

    telling = asyncio.create_task(_clock(timeline) if out.is_terminal else _lines(timeline))
    try:
        if out.is_terminal:
            with Live(get_renderable=now, console=out, refresh_per_second=FRAMES):
                yield
        else:
            yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    timeline.now = time.time()
    if not out.is_terminal:
        out.print(Text(status_line(timeline)), soft_wrap=True)


async def _clock(timeline: Timeline) -> None:
    while True:
        timeline.now = time.time()
        await asyncio.sleep(LOOK)


async def _lines(timeline: Timeline) -> None:
    told, counted, headline = 0, 0, ""
    while True:
        timeline.now = time.time()
        if timeline.headline != headline:
            headline = timeline.headline
            out.print(Text(f"{headline}: {timeline.story}"), soft_wrap=True)
        for mark in timeline.events[told:]:
            out.print(Text(event_line(timeline, mark)), soft_wrap=True)
            told += 1
        if len(timeline.answers) >= counted + EVERY:
            counted = len(timeline.answers)
            out.print(Text(status_line(timeline)), soft_wrap=True)
        await asyncio.sleep(LOOK)
