"""Fetch: have an integration, which is somebody else's API, asked."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from poise.contracts.ask import NAME
from poise.contracts.bounds import Quantity
from poise.contracts.message import Message, Request


class Fetched(Message):
    """What an integration said."""

    kind: ClassVar[str] = "fetched/1"

    integration: str
    text: str
    """The part of its answer that the settings name; never empty."""
    source: str
    """What a reader knows it by."""
    age: Quantity = 0.0
    """Seconds since it said so; more than 0 when it could not be asked just now and its last good answer stands in."""
    reason: str | None = None
    """Why its last good answer stands in; absent when it was asked just now."""


class Fetch(Request[Fetched]):
    """A question to a named integration."""

    kind: ClassVar[str] = "fetch/1"
    reply: ClassVar[type[Fetched]] = Fetched

    integration: Annotated[str, StringConstraints(pattern=NAME)]
    parameters: Mapping[str, Annotated[str, StringConstraints(max_length=8_000)]] = Field(default_factory=dict)
    """Filled into the integration's address and body, by name."""
