"""The decider of one policy: scores and commands in, decisions out. A pure state machine, which can be replayed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Action, Decision, Finding, Policy, PolicyCommand, PolicySpec
from poise.contracts.record import Score
from poise.policy import reasons, weights
from poise.policy.detection import Detectors
from poise.policy.detection.detectors import SNAPSHOT_FORMAT as DETECTING
from poise.policy.detection.detectors import same_detection
from poise.policy.incident import Incident
from poise.policy.observations import is_informative
from poise.policy.observations import observation_of as seen_in
from poise.policy.seen_runs import SeenRuns
from poise.policy.weights import TOLERANCE

SNAPSHOT_FORMAT: Final = 1
"""Of the snapshot."""
MAX_VERSIONS: Final = 50
"""Policies remembered, to go back to."""
MAX_COMMANDS: Final = 1_000
"""Commands remembered, so that none is done twice."""
AUTOMATIC: Final = "loop"
"""Who decided, where nobody did."""


class NewerSnapshotError(ValueError):
    """A newer version of Poise wrote a snapshot: it holds, and only a worker of that version can go on from it."""


class Decider:
    """Decides over one policy. No clock, no IO, no randomness: time is that of the answers and commands.

    A score gives one decision at most, a command one exactly, so that versions of the policy follow one by one.

    Args:
        name: The policy's name.
        scores: The next offset of `poise.scores` as it begins: scores before it were never its.
    """

    def __init__(self, name: str, scores: int = 0) -> None:
        self._name = name
        self._scores = scores
        self._policy: Policy | None = None
        self._history: list[Policy] = []
        self._number = 0
        self._counted = 0
        self._seen = SeenRuns()
        self._done: dict[str, None] = {}
        self._troubles: dict[str, Incident] = {}
        self._target: dict[str, float] = {}
        self._detectors: Detectors | None = None

    @property
    def policy(self) -> Policy | None:
        """What is in force; None = nothing was set yet, and scores are passed over."""
        return self._policy

    @property
    def counted(self) -> int:
        """How many answers were counted."""
        return self._counted

    @property
    def detectors(self) -> Detectors | None:
        """What watches the variants; None = nothing was set yet."""
        return self._detectors

    # -- scores ---------------------------------------------------------------------------------------------------

    def apply_score(self, score: Score, offset: int) -> list[Decision]:
        """Take in a score (its offset in `poise.scores`); one of a run that was counted already counts no more."""
        self._scores = offset + 1
        policy, detectors = self._policy, self._detectors
        if policy is None or detectors is None or not self._steers(score):
            return []
        seen = seen_in(score, policy.spec.limits, self._weights_of(score))
        if seen is None or not self._seen.add(score.run_id):
            return []
        self._counted += is_informative(seen)
        finding = detectors.update(seen)
        if finding is not None and finding.variant in self._drawn and self._is_news(finding.variant):
            detectors.watch_recovery(finding.variant, finding.about)
            self._troubles[finding.variant] = trouble = Incident(finding, self._counted)
            return [self._alarm(policy, trouble, score.at)]
        for trouble in list(self._troubles.values()):
            if self._counted >= trouble.next_step_at:
                decision = self._go_on(policy, detectors, trouble, score.at)
                if decision is not None:
                    return [decision]
        return []

    def _is_news(self, variant: str) -> bool:
        """Whether an alarm tells anything: it is in no trouble yet, or is so again on its way back."""
        return variant not in self._troubles or self._troubles[variant].restoring

    def _steers(self, score: Score) -> bool:
        """Whether it is what evaluation thinks of a variant that is drawn; a workflow of one's own draws none."""
        drawn = score.variant in self._drawn and score.variant != "none" and math.isfinite(score.at)
        return score.policy == self._name and score.feedback is None and drawn and 0 < score.probability <= 1

    def _weights_of(self, score: Score) -> Mapping[str, float] | None:
        """The probabilities of all variants in its draw; None = they are not known any more, or it went by others."""
        weights_ = next((kept.weights for kept in self._history if kept.version == score.policy_version), {})
        same = abs(weights_.get(score.variant, -1.0) - score.probability) < TOLERANCE
        return {name: weights_[name] for name in self._drawn if name in weights_} if same else None

    @property
    def _drawn(self) -> tuple[str, ...]:
        """Those that are drawn; the others stand by."""
        return tuple(name for name, share in self._target.items() if share > 0)

    # -- moving ---------------------------------------------------------------------------------------------------

    def _alarm(self, policy: Policy, trouble: Incident, at: float) -> Decision:
        """Decide on a variant that was just found to be worse."""
        limits, variant = policy.spec.limits, trouble.finding.variant
        what = reasons.describe_finding(trouble.finding, limits)
        if policy.held:
            return self._stay(policy, trouble, at, f"{what}; a person holds the policy: its share stays")
        if policy.weights[variant] <= limits.explore + TOLERANCE:
            return self._stay(policy, trouble, at, f"{what}; it has the least share already")
        return self._leave(policy, trouble, at, what)

    def _go_on(self, policy: Policy, detectors: Detectors, trouble: Incident, at: float) -> Decision | None:
        """What is to be done now about a variant that was found to be worse some answers ago; None = nothing."""
        limits, variant = policy.spec.limits, trouble.finding.variant
        recovered = detectors.recovered(variant)
        if recovered is not None:
            return self._return(policy, detectors, trouble, recovered, at)
        if trouble.restoring or policy.held or policy.weights[variant] <= limits.explore + TOLERANCE:
            return None
        if trouble.announced and (policy.spec.dry_run or not self._refuge(variant)):
            return None
        found = reasons.describe_finding(trouble.finding, limits)
        return self._leave(policy, trouble, at, f"{variant} has not recovered (it was: {found})")

    def _refuge(self, variant: str) -> list[str]:
        """Where one could go from a variant."""
        return [name for name in self._drawn if name != variant and name not in self._troubles]

    def _leave(self, policy: Policy, trouble: Incident, at: float, what: str) -> Decision:
        """A step away from a variant, or to say that there is nowhere to go."""
        limits, variant = policy.spec.limits, trouble.finding.variant
        others = self._refuge(variant)
        if not others:
            why = "every other variant is in trouble too" if len(self._drawn) > 1 else "there is no other variant"
            return self._stay(policy, trouble, at, f"{what}; {why}: its share stays")
        after = weights.decrease(policy.weights, variant, others, self._target, limits)
        action: Action = "roll back" if after[variant] <= limits.explore + TOLERANCE else "shift"
        return self._move(policy, trouble, trouble.finding, at, action=action, after=after, what=what)

    def _return(
        self, policy: Policy, detectors: Detectors, trouble: Incident, finding: Finding, at: float
    ) -> Decision | None:
        """A step of a variant that has recovered back to what a person set; None = not now."""
        limits, variant = policy.spec.limits, trouble.finding.variant
        what = reasons.describe_recovery(finding, limits)
        if (
            policy.weights[variant] >= self._target[variant] - TOLERANCE
        ):  # it never went, or somebody else brought it back
            self._over(detectors, variant)
            told = f"{what}; its share is what was set, {reasons.percent(policy.weights[variant])}"
            return self._decide("promote", at, told, variant=variant, finding=finding, acted=False)
        if policy.held or (policy.spec.dry_run and trouble.restore_announced):
            return None
        after = weights.restore(policy.weights, variant, self._target, limits)
        decision = self._move(policy, trouble, finding, at, action="promote", after=after, what=what)
        if decision.acted:
            trouble.restoring = True
            if after[variant] >= self._target[variant] - TOLERANCE:
                self._over(detectors, variant)
            else:
                detectors.watch_recovery(variant, trouble.finding.about, restoring=True)
        return decision

    def _move(
        self,
        policy: Policy,
        trouble: Incident,
        finding: Finding,
        at: float,
        *,
        action: Action,
        after: dict[str, float],
        what: str,
    ) -> Decision:
        """One step; in a dry run, to say that one would take it."""
        limits, variant, dry = policy.spec.limits, trouble.finding.variant, policy.spec.dry_run
        trouble.next_step_at = self._counted + limits.pause
        trouble.announced = dry and action != "promote"
        trouble.restore_announced = dry and action == "promote"
        reason = f"{what}; {reasons.share_change(variant, policy.weights, after)}"
        reason = f"{reason}, were this no dry run" if dry else reason
        return self._decide(action, at, reason, variant=variant, finding=finding, after=after, acted=not dry)

    def _stay(self, policy: Policy, trouble: Incident, at: float, reason: str) -> Decision:
        """Say once that a variant is in trouble and that nothing is done about it."""
        trouble.announced = not policy.held
        trouble.next_step_at = self._counted + policy.spec.limits.pause
        variant, finding = trouble.finding.variant, trouble.finding
        return self._decide("hold", at, reason, variant=variant, finding=finding, acted=False)

    def _over(self, detectors: Detectors, variant: str) -> None:
        del self._troubles[variant]
        detectors.stop_watching(variant)

    # -- commands -------------------------------------------------------------------------------------------------

    def apply_command(self, command: PolicyCommand, at: float) -> list[Decision]:
        """Do what a person asks; each command gives one decision, also one that cannot be done (`refuse`).

        Args:
            command: What is asked; one that was done already gives none.
            at: When it was written, unix seconds.
        """
        if command.id in self._done:
            return []
        self._done[command.id] = None
        if len(self._done) > MAX_COMMANDS:
            del self._done[next(iter(self._done))]
        match command.action:
            case "set":
                return [self._set(command, at)]
            case "revert":
                return [self._revert(command, at)]
            case "hold" | "release":
                return [self._hold(command, at)]

    def _set(self, command: PolicyCommand, at: float) -> Decision:
        spec, policy = command.spec, self._policy
        if spec is None or spec.name != self._name:
            return self._refuse(command, at, f"no spec of policy {self._name} was given")
        try:
            target = weights.probabilities(spec.weights, spec.limits)
            weights.check_size(spec)
        except ValueError as error:
            return self._refuse(command, at, str(error))
        if policy is not None and spec == policy.spec:
            told = f"sets what is in force already; it stays, at {reasons.format_weights(policy.weights)}"
            return self._person(command, at, told, acted=False)
        if (
            policy is not None
            and spec.weights == policy.spec.weights
            and same_detection(spec.limits, policy.spec.limits)
        ):
            told = f"sets limits; the weights stay at {reasons.format_weights(policy.weights)}"
            return self._person(command, at, told, spec=spec)
        return self._person(command, at, f"sets {reasons.format_weights(target)}", spec=spec, after=target)

    def _revert(self, command: PolicyCommand, at: float) -> Decision:
        policy, wanted = self._policy, command.version
        if policy is None:
            return self._refuse(command, at, "nothing was set yet")
        if wanted is None:
            earlier = [kept for kept in self._history if kept.weights != policy.weights]
            if not earlier:
                return self._refuse(command, at, "no version that is kept had other weights")
        else:
            earlier = [kept for kept in self._history if kept.version == wanted]
            if not earlier:
                first, last = self._history[0].version, policy.version
                return self._refuse(command, at, f"there is no version {wanted}: {first} to {last} are kept")
        to = earlier[-1]
        told = f"goes back to version {to.version}, {reasons.format_weights(to.weights)}"
        if (to.weights, to.spec) == (policy.weights, policy.spec):
            return self._person(command, at, f"{told}, which is in force already", acted=False)
        return self._person(command, at, told, spec=to.spec, after=dict(to.weights))

    def _hold(self, command: PolicyCommand, at: float) -> Decision:
        policy, held = self._policy, command.action == "hold"
        if policy is None:
            return self._refuse(command, at, "nothing was set yet")
        at_weights = reasons.format_weights(policy.weights)
        told = f"holds the weights at {at_weights}" if held else f"releases the weights, which are {at_weights}"
        if policy.held == held:
            told += "; they are held already" if held else "; nobody held them"
        return self._person(command, at, told, held=held, acted=policy.held != held)

    def _refuse(self, command: PolicyCommand, at: float, why: str) -> Decision:
        told = f"{command.by} asked to {command.action} it, which cannot be done: {why}"
        return self._decide("refuse", at, told, by=command.by, command=command.id, acted=False)

    def _person(
        self,
        command: PolicyCommand,
        at: float,
        told: str,
        *,
        spec: PolicySpec | None = None,
        after: dict[str, float] | None = None,
        held: bool | None = None,
        acted: bool = True,
    ) -> Decision:
        reason = f"{command.by} {told}" + (f": {command.reason}" if command.reason else "")
        if acted and spec is not None:
            self._take(spec, anew=after is not None)
        return self._decide(
            command.action,
            at,
            reason,
            by=command.by,
            command=command.id,
            spec=spec,
            after=after,
            held=held,
            acted=acted,
        )

    def _take(self, spec: PolicySpec, *, anew: bool) -> None:
        """Go by another spec: where it has weights of its own, no variant is in trouble any more.

        A person who gives a variant its share anew says that it may have it: when it is worse, it is found again.
        """
        drawn, limits = self._drawn, self._policy.spec.limits if self._policy else None
        self._target = weights.probabilities(spec.weights, spec.limits)
        if self._detectors is None or self._drawn != drawn or limits is None or not same_detection(limits, spec.limits):
            self._detectors = Detectors(self._drawn, spec.limits)
            self._troubles.clear()
        elif anew:
            for variant in list(self._troubles):
                self._over(self._detectors, variant)

    # -- deciding -------------------------------------------------------------------------------------------------

    def _decide(
        self,
        action: Action,
        at: float,
        reason: str,
        *,
        by: str = AUTOMATIC,
        variant: str | None = None,
        finding: Finding | None = None,
        command: str | None = None,
        spec: PolicySpec | None = None,
        after: dict[str, float] | None = None,
        held: bool | None = None,
        acted: bool = True,
    ) -> Decision:
        """Write a decision down, and where it is acted on, the policy that it puts in force."""
        self._number += 1
        id_ = f"{self._name}-{self._number}"
        policy = self._policy
        before = dict(policy.weights) if policy else {}
        after = before if after is None else after
        spec = spec or (policy.spec if policy else None)
        if acted and spec is not None:
            self._policy = Policy(
                name=self._name,
                version=policy.version + 1 if policy else 1,
                weights=after,
                spec=spec,
                held=held if held is not None else policy is not None and policy.held,
                decision=id_,
                at=at,
                by=by,
            )
            self._history = [*self._history, self._policy][-MAX_VERSIONS:]
        return Decision(
            id=id_,
            policy=self._name,
            action=action,
            variant=variant,
            acted=acted,
            reason=reasons.single_line(reason),
            before=before,
            after=after,
            version=self._policy.version if self._policy else 0,
            finding=finding,
            by=by,
            command=command,
            at=at,
            scores=self._scores,
        )

    # -- remembering ----------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON has it."""
        return {
            "format": SNAPSHOT_FORMAT,
            "name": self._name,
            "scores": self._scores,
            "history": [policy.model_dump(mode="json") for policy in self._history],
            "number": self._number,
            "counted": self._counted,
            "seen": self._seen.to_base64(),
            "commands": list(self._done),
            "troubles": [trouble.snapshot() for trouble in self._troubles.values()],
            "detectors": self._detectors.snapshot() if self._detectors else None,
        }

    def _go_on_detecting(self, spec: PolicySpec, snapshot: Mapping[str, Any]) -> None:
        """Go on with what was detected; begin anew where another version of Poise wrote it. Weights stay."""
        kept = snapshot["detectors"]
        if kept.get("format") != DETECTING:
            self._detectors = Detectors(self._drawn, spec.limits)
            return
        self._detectors = Detectors.restore(self._drawn, spec.limits, kept)
        for trouble in snapshot["troubles"]:
            restored = Incident.restore(trouble)
            self._troubles[restored.finding.variant] = restored

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """Go on from a snapshot, to the bit; detection begins anew where another version of Poise wrote it.

        Raises:
            NewerSnapshotError: It is of a newer format.
            ValueError: It is none.
        """
        if not isinstance(written := snapshot.get("format"), int) or written < SNAPSHOT_FORMAT:
            raise ValueError(f"this is no snapshot: its format is {written!r}")
        if written != SNAPSHOT_FORMAT:
            raise NewerSnapshotError(f"a newer worker wrote this snapshot, of format {written}: update this one")
        self = cls(snapshot["name"], snapshot["scores"])
        self._history = [Policy.model_validate(policy) for policy in snapshot["history"]]
        self._policy = self._history[-1] if self._history else None
        self._number, self._counted = snapshot["number"], snapshot["counted"]
        self._seen = SeenRuns.from_base64(snapshot["seen"])
        self._done = dict.fromkeys(snapshot["commands"])
        if self._policy is not None:
            spec = self._policy.spec
            self._target = weights.probabilities(spec.weights, spec.limits)
            self._go_on_detecting(spec, snapshot)
        return self

    @classmethod
    def resume(cls, policies: Sequence[Policy], decisions: Sequence[Decision]) -> Self:
        """Go on without a snapshot, from what is on record, oldest first; answers are counted from 0."""
        policy = policies[-1]
        self = cls(policy.name, decisions[-1].scores if decisions else 0)
        self._history, self._policy = list(policies)[-MAX_VERSIONS:], policy
        self._number = max(map(_number, (policy.decision, *(decision.id for decision in decisions))))
        self._done = dict.fromkeys([made.command for made in decisions if made.command is not None][-MAX_COMMANDS:])
        self._target = weights.probabilities(policy.spec.weights, policy.spec.limits)
        self._detectors = Detectors(self._drawn, policy.spec.limits)
        return self


def _number(decision: str) -> int:
    """The number in the id of a decision; 0 where there is none."""
    number = decision.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0  # noqa: PLR2004 - an int64
