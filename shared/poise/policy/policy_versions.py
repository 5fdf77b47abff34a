"""The versions of one policy: what is in force, what was before, and the decision that put each in force.

No clock, no I/O.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from poise.contracts.policy import Action, Decision, Finding, Policy, PolicySpec
from poise.policy import reasons

MAX_VERSIONS: Final = 50
"""Versions remembered, so that a person can revert to them."""
AUTOMATIC: Final = "loop"
"""The author recorded for decisions that no person made."""


class PolicyVersions:
    """The policy in force and its last versions.

    Args:
        name: The policy's name.
        scores_offset: The next offset of `poise.scores`; decisions record it.
        history: The last versions, oldest first.
        last_number: The number of the last decision.
    """

    def __init__(self, name: str, scores_offset: int = 0, history: Sequence[Policy] = (), last_number: int = 0) -> None:
        self.name = name
        self.scores_offset = scores_offset
        self.history = list(history)[-MAX_VERSIONS:]
        self.last_number = last_number

    @property
    def current(self) -> Policy | None:
        """The policy in force; None = none was ever set."""
        return self.history[-1] if self.history else None

    def weights_of(self, version: int) -> Mapping[str, float]:
        """Return the weights of a version; empty = it is no longer remembered."""
        return next((policy.weights for policy in self.history if policy.version == version), {})

    def reverted_version(self, version: int | None) -> Policy | None:
        """Return the version that a revert restores; None = it is not remembered.

        Args:
            version: The version to revert to; None = the last one with other weights.
        """
        current = self.current
        if version is None:
            found = [policy for policy in self.history if current is not None and policy.weights != current.weights]
        else:
            found = [policy for policy in self.history if policy.version == version]
        return found[-1] if found else None

    def decide(
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
        """Record a decision and, if it is acted on, put the policy of that decision in force."""
        self.last_number += 1
        id_ = f"{self.name}-{self.last_number}"
        policy = self.current
        before = dict(policy.weights) if policy else {}
        after = before if after is None else after
        spec = spec or (policy.spec if policy else None)
        if acted and spec is not None:
            changed = Policy(
                name=self.name,
                version=policy.version + 1 if policy else 1,
                weights=after,
                spec=spec,
                held=held if held is not None else policy is not None and policy.held,
                decision=id_,
                at=at,
                by=by,
            )
            self.history = [*self.history, changed][-MAX_VERSIONS:]
        return Decision(
            id=id_,
            policy=self.name,
            action=action,
            variant=variant,
            acted=acted,
            reason=reasons.single_line(reason),
            before=before,
            after=after,
            version=self.history[-1].version if self.history else 0,
            finding=finding,
            by=by,
            command=command,
            at=at,
            next_score_offset=self.scores_offset,
        )
