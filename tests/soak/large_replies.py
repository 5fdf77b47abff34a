"""A custom tier whose requests set the size of the reply: `poise worker large_replies.py`."""

from typing import ClassVar

from poise.contracts import Message, Request
from poise.worker.context import Context
from poise.worker.tier import Tier


class Enlarged(Message):
    """A text of the requested size."""

    kind: ClassVar[str] = "enlarged/1"

    text: str


class Enlarge(Request[Enlarged]):
    """A request for a text of `size` characters."""

    kind: ClassVar[str] = "enlarge/1"
    tier: ClassVar[str] = "enlarging"
    reply: ClassVar[type[Message]] = Enlarged

    size: int


async def enlarge(request: Enlarge, _: Context) -> Enlarged:
    """Reply with the requested number of characters."""
    return Enlarged(text="x" * request.size)


tier = Tier("enlarging", {Enlarge: enlarge})
