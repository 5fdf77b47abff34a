"""A custom tier whose replies are as large as they are asked for: `poise worker large_replies.py`."""

from typing import ClassVar

from poise.contracts import Message, Request
from poise.worker.context import Context
from poise.worker.tier import Tier


class Enlarged(Message):
    """A number of characters."""

    kind: ClassVar[str] = "enlarged/1"

    text: str


class Enlarge(Request[Enlarged]):
    """Reply with this number of characters."""

    kind: ClassVar[str] = "enlarge/1"
    tier: ClassVar[str] = "enlarging"
    reply: ClassVar[type[Message]] = Enlarged

    size: int


async def enlarge(request: Enlarge, _: Context) -> Enlarged:
    """Reply with as much as was asked for."""
    return Enlarged(text="x" * request.size)


tier = Tier("enlarging", {Enlarge: enlarge})
