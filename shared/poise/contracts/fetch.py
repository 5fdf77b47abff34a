"""Fetch: a request to an integration, which is a third-party API."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from poise.contracts.ask import NAME_PATTERN
from poise.contracts.bounds import Quantity
from poise.contracts.message import Message, Request


class Fetched(Message):
    """The response of an integration."""

    kind: ClassVar[str] = "fetched/1"

    integration: str
    text: str
    """The part of its response that the settings select; never empty."""
    source: str
    """The title or URL of the integration, for readers."""
    age: Quantity = 0.0
    """Seconds since the response was received; above 0 if the integration failed and its last good response is used."""
    reason: str | None = None
    """Why the last good response is used; absent for a new response."""


class Fetch(Request[Fetched]):
    """A request to a named integration."""

    kind: ClassVar[str] = "fetch/1"
    reply: ClassVar[type[Fetched]] = Fetched

    integration: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    parameters: Mapping[str, Annotated[str, StringConstraints(max_length=8_000)]] = Field(default_factory=dict)
    """Values for the placeholders in the URL and body of the integration, by name."""
