"""What the logs say of a policy, and how somebody's command gets into them and is answered."""

import asyncio
import getpass
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from poise.contracts.message import Message
from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicyState
from poise.contracts.record import RunRecord, Score
from poise.contracts.topics import COMMANDS, DECISIONS, POLICY, POLICY_STATE, RECORDS, SCORES
from poise.errors import PoiseError, UnavailableError
from poise.kafka.log_stream import LogStream
from poise.kafka.record import Record
from poise.policy.policy_file import DEFAULT_NAME
from poise.policy.replay import PolicyLogs
from poise.run_log.records import search_windows
from poise.worker.connection import MeshConnection

MessageT = TypeVar("MessageT", bound=Message)

DECIDED_WITHIN: Final = 20.0
"""Seconds that a person waits for a decision. When the worker that decides was killed, the next one does after 10."""
READ_WITHIN: Final = 60.0
RUNS_AT_ONCE: Final = 4
RECENT: Final = 10_000
"""How many of the last scores are looked at."""


def readable(of: type[MessageT], records: Iterable[Record]) -> list[tuple[Record, MessageT]]:
    """The bodies of this form; what a newer version wrote, or somebody else, is passed over."""
    found = []
    for record in records:
        if record.header("poise-kind") not in {None, of.kind}:
            continue
        try:
            found.append((record, of.parse(record.value or b"")))
        except ValidationError:
            continue
    return found


async def policies(mesh: MeshConnection) -> dict[str, Policy]:
    """The policies in force, by name."""
    return {policy.name: policy for _, policy in readable(Policy, await mesh.logs.read_topic(POLICY.name))}


async def chosen(mesh: MeshConnection, name: str | None) -> tuple[str, Policy | None]:
    """The policy that is meant, and what is in force of it: the one named, else the only one, else `answer`.

    Raises:
        PoiseError: None is named, and there are several.
    """
    known = await policies(mesh)
    if name is None and len(known) > 1 and DEFAULT_NAME not in known:
        raise PoiseError(f"there are several policies: name one of {', '.join(sorted(known))}")
    if name is None:
        name = next(iter(known)) if len(known) == 1 else DEFAULT_NAME
    return name, known.get(name)


async def decisions(mesh: MeshConnection, name: str) -> list[Decision]:
    """All decisions about a policy, oldest first."""
    return _about(name, await mesh.logs.read_key(DECISIONS.name, name))


async def decisions_by_batch(
    mesh: MeshConnection, name: str, *, last: int, follow: bool
) -> AsyncGenerator[list[Decision], None]:
    """The last decisions about a policy, then, if that is wanted, those to come as they are made."""
    newest: deque[Decision] = deque(maxlen=last)
    number = await mesh.logs.partition_of(DECISIONS.name, name.encode())
    async with mesh.logs.follow(DECISIONS.name, partitions=[number]) as follower:
        async for batch in follower.read_to_end(within=READ_WITHIN):
            newest += _about(name, batch)
        if newest:
            yield list(newest)
        if follow:
            async for batch in follower:
                if found := _about(name, batch):
                    yield found


def _about(name: str, records: Iterable[Record]) -> list[Decision]:
    return [decision for _, decision in readable(Decision, records) if decision.policy == name]


async def recent(mesh: MeshConnection, name: str) -> list[Score]:
    """The last scores of a policy."""
    number = await mesh.logs.partition_of(SCORES.name, name.encode())
    async with mesh.logs.follow(SCORES.name, start="end", partitions=[number]) as follower:
        start = {number: max(0, follower.ends[number] - RECENT)}
    async with mesh.logs.follow(SCORES.name, start=start, partitions=[number]) as follower:
        return [score for _, score in await _scored(follower, name)]


async def _scored(follower: LogStream, name: str) -> list[tuple[int, Score]]:
    """The scores of a policy with their offsets, as far as there are any now."""
    found: list[tuple[int, Score]] = []
    async for batch in follower.read_to_end(within=READ_WITHIN):
        found += [(record.offset, score) for record, score in readable(Score, batch) if score.policy == name]
    return found


async def logs(mesh: MeshConnection, name: str) -> PolicyLogs:
    """All that a replay needs."""
    number = await mesh.logs.partition_of(SCORES.name, name.encode())
    states = readable(PolicyState, await mesh.logs.read_key(POLICY_STATE.name, name))
    made = await decisions(mesh, name)
    # Read in this order: what is decided meanwhile is in the decisions, though the state may be from before it.
    end = max(states[-1][1].scores if states else 0, made[-1].scores if made else 0)
    async with mesh.logs.follow(SCORES.name, partitions=[number]) as follower:
        first = follower.position(number)
        scored = await _scored(follower, name)
    asked = await mesh.logs.read_key(COMMANDS.name, name)
    return PolicyLogs(
        name,
        made,
        {command.id: (record.timestamp, command) for record, command in readable(PolicyCommand, reversed(asked))},
        scored,
        first,
        end,
    )


async def runs(mesh: MeshConnection, ids: Sequence[str]) -> dict[str, RunRecord]:
    """The records of runs by id, as far as they are still kept."""
    at_once = asyncio.Semaphore(RUNS_AT_ONCE)

    async def one(run: str) -> RunRecord | None:
        where = search_windows(run, time.time(), mesh.settings.clock_skew)
        async with at_once:
            found = await mesh.logs.lookups.last_of_key(RECORDS.name, run, (*where.near, *where.far))
        records = readable(RunRecord, [found] if found is not None else [])
        return records[0][1] if records else None

    found = await asyncio.gather(*map(one, ids))
    return {run: record for run, record in zip(ids, found, strict=True) if record is not None}


async def decided(mesh: MeshConnection, name: str, command: PolicyCommand) -> Decision:
    """Ask for a change, and wait for what is decided.

    Raises:
        UnavailableError: Nobody decided, or the broker did not take it.
    """
    async with mesh.logs.follow(
        DECISIONS.name, start="end"
    ) as follower:  # before it is asked, so that nothing is missed
        await mesh.producer.publish(COMMANDS, command, key=name)
        try:
            async with asyncio.timeout(DECIDED_WITHIN):
                async for batch in follower:
                    for _, decision in readable(Decision, batch):
                        if decision.command == command.id:
                            return decision
        except TimeoutError:
            pass
    raise UnavailableError(
        f"nobody decided on it within {DECIDED_WITHIN:g} s: an evaluation worker must run (`poise status` shows what"
        f" does); it stays asked for, and is done as soon as one runs: `poise policy log {name}` shows it then"
    )


def new_id() -> str:
    """An id for a command."""
    return uuid4().hex


def person() -> str:
    """The name under which whoever runs this is logged in."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}"
