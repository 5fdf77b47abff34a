"""The log of a policy: the policies in force, their decisions, and what a replay of them needs."""

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicyState
from poise.contracts.topics import COMMANDS, DECISIONS, POLICY, POLICY_STATE, SCORES
from poise.errors import PoiseError
from poise.kafka.logs import Logs
from poise.kafka.record import Record
from poise.policy.decider import Decider, NewerSnapshotError
from poise.policy.policy_file import DEFAULT_POLICY
from poise.policy.replay import PolicyLogs
from poise.run_log.decoding import decodable
from poise.run_log.lookup import scores_of_policy

READ_TIMEOUT: Final = 60.0
"""Seconds for reading the decisions."""


async def policies(logs: Logs) -> dict[str, Policy]:
    """Return the policies in force, by name."""
    return {policy.name: policy for _, policy in decodable(Policy, await logs.read_topic(POLICY.name))}


async def resolve(logs: Logs, name: str | None) -> tuple[str, Policy | None]:
    """Return a policy's name and what is in force: the named policy, else the only one, else `answer`.

    Raises:
        PoiseError: No name is given, and there are several policies.
    """
    known = await policies(logs)
    if name is None and len(known) > 1 and DEFAULT_POLICY not in known:
        raise PoiseError(f"there are several policies: name one of {', '.join(sorted(known))}")
    if name is None:
        name = next(iter(known)) if len(known) == 1 else DEFAULT_POLICY
    return name, known.get(name)


async def decisions(logs: Logs, name: str) -> list[Decision]:
    """Return all decisions about a policy, oldest first."""
    return _about(name, await logs.read_key(DECISIONS.name, name))


async def follow_decisions(logs: Logs, name: str, *, last: int, follow: bool) -> AsyncGenerator[list[Decision], None]:
    """Yield the last decisions about a policy and, if asked to follow, each new batch of them."""
    newest: deque[Decision] = deque(maxlen=last)
    partition = await logs.partition_of(DECISIONS.name, name.encode())
    async with logs.open_stream(DECISIONS.name, partitions=[partition]) as stream:
        async for batch in stream.read_to_end(within=READ_TIMEOUT):
            newest += _about(name, batch)
        if newest:
            yield list(newest)
        if follow:
            async for batch in stream:
                if found := _about(name, batch):
                    yield found


def _about(name: str, records: Iterable[Record]) -> list[Decision]:
    return [decision for _, decision in decodable(Decision, records) if decision.policy == name]


async def reverted_version(logs: Logs, name: str, version: int | None) -> Policy | None:
    """Return the version that a revert restores, according to the decider's last snapshot; None = it is not known.

    Args:
        logs: Reads the logs.
        name: The policy's name.
        version: The version to revert to; None = the last one with other weights.
    """
    states = decodable(PolicyState, await logs.read_key(POLICY_STATE.name, name))
    try:
        return Decider.restore(states[-1][1].decider).reverted_version(version) if states else None
    except (KeyError, ValueError, NewerSnapshotError):  # another version of Poise wrote it
        return None


async def replay_logs(logs: Logs, name: str) -> PolicyLogs:
    """Return all that a replay of a policy needs."""
    partition = await logs.partition_of(SCORES.name, name.encode())
    states = decodable(PolicyState, await logs.read_key(POLICY_STATE.name, name))
    made = await decisions(logs, name)
    # In this order: a decision made in the meantime is among the decisions, even if the state is older than it.
    end = max(states[-1][1].next_score_offset if states else 0, made[-1].next_score_offset if made else 0)
    async with logs.open_stream(SCORES.name, partitions=[partition]) as stream:
        first = stream.position(partition)
        scores = [found async for found in scores_of_policy(stream, name)]
    sent = await logs.read_key(COMMANDS.name, name)
    commands = {command.id: (record.timestamp, command) for record, command in decodable(PolicyCommand, reversed(sent))}
    return PolicyLogs(name, made, commands, scores, first, end)
