"""Replay: decisions about a policy are recomputed from the logs and compared with the originals. No clock, no I/O.

The input of a decider is scores and commands, and each decision states the next offset of the scores at its time. A
replay therefore inserts each command among the scores at the offset of its decision. Scores are retained for a shorter
time than decisions, so a replay begins at a decision after which all scores exist and before which nothing counts: the
first one, or one by which a person set other variants or detection limits, so that detection started over.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicySpec
from poise.contracts.record import Score
from poise.policy.decider import SNAPSHOT_FORMAT, Decider
from poise.policy.detection import Detectors
from poise.policy.policy_versions import MAX_VERSIONS
from poise.policy.seen_runs import SeenRuns

TOLERANCE: Final = 1e-9
"""The relative difference that numbers may have: logarithms of two machines may round the last bit differently."""


@dataclass(frozen=True, slots=True)
class PolicyLogs:
    """The logs of a policy, each oldest first."""

    name: str
    decisions: Sequence[Decision]
    commands: Mapping[str, tuple[float, PolicyCommand]]
    """By id: when the command was written, unix seconds, and the command."""
    scores: Sequence[tuple[int, Score]]
    """With their offsets."""
    first: int
    """The first retained offset of the scores."""
    end: int
    """The next offset of the scores of the deciding worker; later scores are not decided yet."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay."""

    skipped: int
    """The number of first decisions that could not be replayed."""
    why: str | None
    """Why they could not."""
    recorded: tuple[Decision, ...]
    """The decisions in the log after those."""
    reproduced: int
    """The number of these that were reproduced, up to the first difference."""
    difference: str | None
    """How the first one differs, in one line; None = none differs."""


def replay(logs: PolicyLogs) -> ReplayResult:
    """Replay the decisions of a policy as far back as the logs reach."""
    begin = _begin(logs)
    if begin is None:
        none = "for no decision are all later scores and commands retained and all earlier ones irrelevant"
        return ReplayResult(len(logs.decisions), none if logs.decisions else None, (), 0, None)
    recorded = logs.decisions[begin:]
    why = f"not all scores and commands before {recorded[0].id} are retained" if begin else None
    replayed = _replayed(_decider(logs, begin), logs, recorded)
    return ReplayResult(begin, why, tuple(recorded), *_compare(recorded, replayed))


def _compare(recorded: Sequence[Decision], replayed: Iterable[Decision]) -> tuple[int, str | None]:
    """Return how many were reproduced, and how the first one differs."""
    number = 0
    for decision in replayed:
        difference = _difference(recorded[number] if number < len(recorded) else None, decision)
        if difference is not None:
            return number, difference
        number += 1
    if number < len(recorded):
        return number, f"{recorded[number].id} is in the log, but was not reproduced: {recorded[number].reason}"
    return number, None


def replay_with(logs: PolicyLogs, spec: PolicySpec) -> list[Decision]:
    """Return the decisions that would have been made if every `set` command had this spec."""
    commands = {
        id_: (at, command.model_copy(update={"spec": spec}) if command.action == "set" else command)
        for id_, (at, command) in logs.commands.items()
    }
    begin = _begin(logs)
    if begin is None:
        return []
    changed = PolicyLogs(logs.name, logs.decisions, commands, logs.scores, logs.first, logs.end)
    return list(_replayed(_decider(logs, begin), changed, logs.decisions[begin:]))


def _replayed(decider: Decider, logs: PolicyLogs, recorded: Sequence[Decision]) -> Iterator[Decision]:
    """Yield the decisions of a decider on the scores, and on the commands at the offsets of the original decisions."""
    waiting = iter([decision for decision in recorded if decision.command is not None])
    following = next(waiting, None)
    for offset, score in logs.scores:
        while following is not None and following.next_score_offset <= offset:
            yield from _apply_command_of(decider, logs, following)
            following = next(waiting, None)
        if recorded[0].next_score_offset <= offset < logs.end:
            yield from decider.apply_score(score, offset)
    while following is not None:
        yield from _apply_command_of(decider, logs, following)
        following = next(waiting, None)


def _apply_command_of(decider: Decider, logs: PolicyLogs, recorded: Decision) -> list[Decision]:
    if recorded.command is None or recorded.command not in logs.commands:
        return []
    at, command = logs.commands[recorded.command]
    # The position among the scores comes from the log; it is not decided.
    position = {"next_score_offset": recorded.next_score_offset}
    return [decision.model_copy(update=position) for decision in decider.apply_command(command, at)]


# -- where it begins --------------------------------------------------------------------------------------------------


def _begin(logs: PolicyLogs) -> int | None:
    """Return the index of the first decision to replay."""
    history = _history(logs)
    acted = False
    for number, decision in enumerate(logs.decisions):
        command = _command(logs, decision)
        if command is not None and decision.next_score_offset >= logs.first:
            before = [policy for policy in history if policy.version < decision.version]
            given = command.spec if decision.acted else None
            if not acted or (given is not None and before and _restarts_detection(before[-1].spec, given)):
                return number
        acted = acted or decision.acted
    return None


def _command(logs: PolicyLogs, decision: Decision) -> PolicyCommand | None:
    return logs.commands.get(decision.command or "", (0.0, None))[1]


def _restarts_detection(before: PolicySpec, after: PolicySpec) -> bool:
    """Return whether detection starts over, so that nothing before counts."""
    limits = before.limits.model_copy(
        update={"step": after.limits.step, "cooldown_answers": after.limits.cooldown_answers}
    )
    return limits != after.limits or _drawn(before) != _drawn(after)


def _drawn(spec: PolicySpec) -> tuple[str, ...]:
    return tuple(name for name, weight in spec.weights.items() if weight > 0)


def _history(logs: PolicyLogs) -> list[Policy]:
    """Return the policies that decisions put in force, as far as the commands with their specs are retained."""
    found: list[Policy] = []
    for decision in logs.decisions:
        if not decision.acted:
            continue
        spec, command = found[-1].spec if found else None, _command(logs, decision)
        if decision.action == "set":
            spec = command.spec if command is not None else None
        elif decision.action == "revert":
            wanted = command.version if command is not None else None
            spec = next((policy.spec for policy in reversed(found) if _is_reverted_to(policy, decision, wanted)), spec)
        held = {"hold": True, "release": False}.get(decision.action, bool(found) and found[-1].held)
        if spec is None:  # its specification is not retained, so those that follow are unknown too
            found.clear()
            continue
        found.append(
            Policy(
                name=logs.name,
                version=decision.version,
                weights=decision.after,
                spec=spec,
                held=held,
                decision=decision.id,
                at=decision.at,
                by=decision.by,
            )
        )
    return found


def _is_reverted_to(policy: Policy, decision: Decision, wanted: int | None) -> bool:
    return policy.version == wanted if wanted is not None else policy.weights == decision.after


def _decider(logs: PolicyLogs, begin: int) -> Decider:
    """Return a decider in the state before a decision."""
    first = logs.decisions[begin]
    history = [policy for policy in _history(logs) if policy.version < first.version][-MAX_VERSIONS:]
    last = history[-1].spec if history else None
    end = first.next_score_offset
    earlier = [score.run_id for offset, score in logs.scores if offset < end and score.feedback is None]
    counted = SeenRuns()
    for run in earlier if history else ():  # a score that is repeated after the decision does not count
        counted.add(run)
    return Decider.restore(
        {
            "format": SNAPSHOT_FORMAT,
            "name": logs.name,
            "scores": end,
            "history": [policy.model_dump(mode="json") for policy in history],
            "number": begin,
            "counted": 0,
            "seen": counted.to_base64(),
            "commands": [decision.command for decision in logs.decisions[:begin] if decision.command is not None],
            "troubles": [],
            "detectors": None if last is None else Detectors(_drawn(last), last.limits).snapshot(),
        }
    )


# -- comparing --------------------------------------------------------------------------------------------------------


def _difference(recorded: Decision | None, replayed: Decision) -> str | None:
    """Return how a replayed decision differs from the one in the log."""
    if recorded is None:
        return f"{replayed.id} was replayed, but is not in the log: {replayed.reason}"
    for (name, one), other in zip(recorded.model_dump().items(), replayed.model_dump().values(), strict=True):
        if not _same(one, other):
            return f"{recorded.id}: {name} is {_shown(one)} in the log, and {_shown(other)} in the replay"
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
