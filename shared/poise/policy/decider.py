"""The decider of one policy: scores and commands in, decisions out. No clock, no I/O: it can be replayed.

What it decides is in two modules: on variants that become worse or recover in `incident_response`, on commands in
`command_execution`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Decision, Policy, PolicyCommand
from poise.contracts.record import Score
from poise.errors import SetupError
from poise.policy import snapshot_keys
from poise.policy.command_execution import MAX_COMMANDS, CommandExecution
from poise.policy.detection import Detectors
from poise.policy.incident_response import IncidentResponse
from poise.policy.observations import observation_of
from poise.policy.policy_versions import PolicyVersions
from poise.policy.seen_runs import SeenRuns
from poise.policy.weights import TOLERANCE

SNAPSHOT_FORMAT: Final = 2
"""Format 2 has new names for the limits. A worker that knows only format 1 would ignore them and use the defaults."""
OLDEST_SNAPSHOT_FORMAT: Final = 1


class NewerSnapshotError(SetupError):
    """A newer version of Poise wrote a snapshot: the policy stays as it is until a worker of that version continues."""


class Decider:
    """Decides on one policy. No clock, no I/O, no randomness: time is that of the answers and commands.

    A score gives at most one decision and a command exactly one, so that the versions of the policy follow one by one.

    Args:
        name: The policy's name.
        next_score_offset: The next offset of `poise.scores` when the decider starts; earlier scores never count.
    """

    def __init__(self, name: str, next_score_offset: int = 0) -> None:
        self._versions = PolicyVersions(name, next_score_offset)
        self._response = IncidentResponse(self._versions)
        self._commands = CommandExecution(self._versions, self._response)
        self._seen_runs = SeenRuns()

    @property
    def policy(self) -> Policy | None:
        """The policy in force; None = none was ever set, and scores do not count."""
        return self._versions.current

    @property
    def answers_counted(self) -> int:
        """How many answers were counted."""
        return self._response.answers

    @property
    def detectors(self) -> Detectors | None:
        """The detectors of the variants; None = no policy was ever set."""
        return self._response.detectors

    def reverted_version(self, version: int | None) -> Policy | None:
        """Return the version that a revert restores: the given one, or the last one with other weights; None = none."""
        return self._versions.reverted_version(version)

    def apply_score(self, score: Score, offset: int) -> list[Decision]:
        """Apply a score; one of a run that was counted before does not count again.

        Args:
            score: The score.
            offset: Its offset in `poise.scores`.
        """
        self._versions.scores_offset = offset + 1
        policy = self._versions.current
        if policy is None or not self._counts(score):
            return []
        observation = observation_of(score, policy.spec.limits, self._draw_shares(score))
        if observation is None or not self._seen_runs.add(score.run_id):
            return []
        decision = self._response.observe(observation, score.at)
        return [] if decision is None else [decision]

    def _counts(self, score: Score) -> bool:
        """Return whether it is evaluation's score of a variant that is drawn; a user's own workflow draws none."""
        drawn = score.variant in self._response.drawn and score.variant != "none" and math.isfinite(score.at)
        own = score.policy == self._versions.name and score.feedback is None
        return own and drawn and 0 < score.probability <= 1

    def _draw_shares(self, score: Score) -> Mapping[str, float] | None:
        """Return the probabilities of all variants in its draw; None = no longer known, or drawn by other weights."""
        weights = self._versions.weights_of(score.policy_version)
        same = abs(weights.get(score.variant, -1.0) - score.probability) < TOLERANCE
        return {name: weights[name] for name in self._response.drawn if name in weights} if same else None

    def apply_command(self, command: PolicyCommand, at: float) -> list[Decision]:
        """Execute a person's command; each gives one decision, also one that cannot be executed (`refuse`).

        Args:
            command: The command; one that was executed before gives no decision.
            at: When it was written, unix seconds.
        """
        decision = self._commands.execute(command, at)
        return [] if decision is None else [decision]

    # -- snapshots --------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "format": SNAPSHOT_FORMAT,
            "name": self._versions.name,
            snapshot_keys.SCORES_OFFSET: self._versions.scores_offset,
            snapshot_keys.VERSIONS: [policy.model_dump(mode="json") for policy in self._versions.history],
            snapshot_keys.LAST_DECISION_NUMBER: self._versions.last_number,
            snapshot_keys.ANSWERS_COUNTED: self._response.answers,
            snapshot_keys.SEEN_RUNS: self._seen_runs.to_base64(),
            snapshot_keys.EXECUTED_COMMANDS: self._commands.executed,
            **self._response.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """Continue from a snapshot, bit for bit; detection starts over if another version of Poise wrote it.

        Raises:
            NewerSnapshotError: The snapshot has a newer format.
            ValueError: It is not a snapshot.
        """
        if not isinstance(written := snapshot.get("format"), int) or written < OLDEST_SNAPSHOT_FORMAT:
            raise ValueError(f"this is no snapshot: its format is {written!r}")
        if written > SNAPSHOT_FORMAT:
            raise NewerSnapshotError(f"a newer worker wrote this snapshot, of format {written}: update this one")
        history = [Policy.model_validate(policy) for policy in snapshot[snapshot_keys.VERSIONS]]
        self = cls(snapshot["name"])
        versions = PolicyVersions(
            snapshot["name"],
            snapshot[snapshot_keys.SCORES_OFFSET],
            history,
            snapshot[snapshot_keys.LAST_DECISION_NUMBER],
        )
        self._continue(versions, snapshot[snapshot_keys.EXECUTED_COMMANDS])
        self._response.answers = snapshot[snapshot_keys.ANSWERS_COUNTED]
        self._seen_runs = SeenRuns.from_base64(snapshot[snapshot_keys.SEEN_RUNS])
        if history:
            self._response.restore_snapshot(history[-1].spec, snapshot)
        return self

    @classmethod
    def resume(cls, policies: Sequence[Policy], decisions: Sequence[Decision]) -> Self:
        """Continue without a snapshot from the logs; answers are counted from 0.

        Args:
            policies: What was in force, oldest first.
            decisions: The decisions, oldest first.
        """
        policy = policies[-1]
        last_number = max(map(_number, (policy.decision, *(decision.id for decision in decisions))))
        executed = [decision.command for decision in decisions if decision.command is not None][-MAX_COMMANDS:]
        self = cls(policy.name)
        next_score_offset = decisions[-1].next_score_offset if decisions else 0
        self._continue(PolicyVersions(policy.name, next_score_offset, policies, last_number), executed)
        self._response.restore_snapshot(policy.spec, None)
        return self

    def _continue(self, versions: PolicyVersions, executed: Sequence[str]) -> None:
        self._versions = versions
        self._response = IncidentResponse(versions)
        self._commands = CommandExecution(versions, self._response, executed)


def _number(decision: str) -> int:
    """Return the number in the id of a decision; 0 if it has none."""
    number = decision.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0  # noqa: PLR2004 - an int64
