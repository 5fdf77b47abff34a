"""Control of a policy: send a command and wait for its decision."""

import asyncio
import getpass
import os
from collections.abc import Awaitable
from typing import Final, Protocol
from uuid import uuid4

from poise.contracts.message import Message
from poise.contracts.policy import Decision, PolicyCommand
from poise.contracts.topics import COMMANDS, DECISIONS, Topic
from poise.errors import UnavailableError
from poise.kafka.log_stream import LogStream, Start
from poise.run_log.decoding import decodable

DECISION_TIMEOUT: Final = 20.0
"""Seconds to wait for a decision. If the deciding worker was killed, the next one takes over after 10."""


class Reader(Protocol):
    """Opens a stream of a topic's records."""

    def open_stream(self, topic: str, *, start: Start) -> LogStream:
        """Return a stream that starts there."""


class Publisher(Protocol):
    """Publishes messages."""

    def publish(self, topic: Topic, message: Message, *, key: str) -> Awaitable[object]:
        """Publish a message."""


async def send_and_wait(
    reader: Reader, publisher: Publisher, policy: str, command: PolicyCommand, *, within: float | None = None
) -> Decision:
    """Send a command and return the decision on it.

    Args:
        reader: Reads the decisions.
        publisher: Writes the command.
        policy: The policy's name.
        command: The command.
        within: Seconds to wait for the decision; None = `DECISION_TIMEOUT`.

    Raises:
        UnavailableError: There was no decision in time, or the broker did not accept the command.
    """
    within = DECISION_TIMEOUT if within is None else within
    async with reader.open_stream(DECISIONS.name, start="end") as stream:  # opened first, so that no decision is missed
        await publisher.publish(COMMANDS, command, key=policy)
        try:
            async with asyncio.timeout(within):
                return await _decision(stream, command.id)
        except TimeoutError:
            pass
    raise UnavailableError(
        f"no decision on {command.action} of policy {policy} within {within:g} s: an evaluation worker must run"
        f" (`poise status` shows which run); the command stays in {COMMANDS.name} and is executed once a worker runs:"
        f" `poise policy log {policy}` shows it then"
    )


async def _decision(stream: LogStream, command: str) -> Decision:
    async for batch in stream:
        for _, decision in decodable(Decision, batch):
            if decision.command == command:
                return decision
    raise UnavailableError(f"the stream of {DECISIONS.name} ended")


def new_command_id() -> str:
    """Return a new id for a command."""
    return uuid4().hex


def current_user() -> str:
    """Return the login name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return f"user {os.getuid()}"
