"""The execution of people's commands: `set`, `revert`, `hold` and `release`. No clock, no I/O."""

from collections.abc import Iterable
from typing import Final

from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicySpec
from poise.policy import reasons, weights
from poise.policy.detection.detectors import same_detection
from poise.policy.incident_response import IncidentResponse
from poise.policy.policy_versions import PolicyVersions

MAX_COMMANDS: Final = 1_000
"""Commands remembered, so that none is executed twice."""


class CommandExecution:
    """Decides on commands.

    Args:
        versions: The policy in force, and where decisions are recorded.
        response: Follows the weights and limits that a person sets.
        executed: The ids of the commands that were executed, oldest first.
    """

    def __init__(self, versions: PolicyVersions, response: IncidentResponse, executed: Iterable[str] = ()) -> None:
        self._versions = versions
        self._response = response
        self._executed = dict.fromkeys(executed)

    @property
    def executed(self) -> list[str]:
        """The ids of the last commands that were executed, oldest first."""
        return list(self._executed)

    def execute(self, command: PolicyCommand, at: float) -> Decision | None:
        """Execute a command and return its decision; None = it was executed before.

        Args:
            command: The command; one that cannot be executed gives a decision to `refuse` it.
            at: When it was written, unix seconds.
        """
        if command.id in self._executed:
            return None
        self._executed[command.id] = None
        if len(self._executed) > MAX_COMMANDS:
            del self._executed[next(iter(self._executed))]
        if command.action == "set":
            return self._set(command, at)
        policy = self._versions.current
        if policy is None:
            return self._refuse(command, at, "nothing was set yet")
        if command.action == "revert":
            return self._revert(policy, command, at)
        return self._hold(policy, command, at)

    def _set(self, command: PolicyCommand, at: float) -> Decision:
        spec, policy = command.spec, self._versions.current
        if spec is None or spec.name != self._versions.name:
            return self._refuse(command, at, f"no spec of policy {self._versions.name} was given")
        try:
            target = weights.normalize(spec.weights, spec.limits)
            weights.check_size(spec)
        except ValueError as error:
            return self._refuse(command, at, str(error))
        if policy is not None and spec == policy.spec:
            reason = f"sets what is in force already; it stays, at {reasons.format_weights(policy.weights)}"
            return self._accept(command, at, reason, acted=False)
        if (
            policy is not None
            and spec.weights == policy.spec.weights
            and same_detection(spec.limits, policy.spec.limits)
        ):
            reason = f"sets limits; the weights stay at {reasons.format_weights(policy.weights)}"
            return self._accept(command, at, reason, spec=spec)
        return self._accept(command, at, f"sets {reasons.format_weights(target)}", spec=spec, after=target)

    def _revert(self, policy: Policy, command: PolicyCommand, at: float) -> Decision:
        to = self._versions.reverted_version(command.version)
        if to is None and command.version is None:
            return self._refuse(command, at, "no version that is kept had other weights")
        if to is None:
            first, last = self._versions.history[0].version, policy.version
            return self._refuse(command, at, f"there is no version {command.version}: {first} to {last} are kept")
        reason = f"goes back to version {to.version}, {reasons.format_weights(to.weights)}"
        if (to.weights, to.spec) == (policy.weights, policy.spec):
            return self._accept(command, at, f"{reason}, which is in force already", acted=False)
        return self._accept(command, at, reason, spec=to.spec, after=dict(to.weights))

    def _hold(self, policy: Policy, command: PolicyCommand, at: float) -> Decision:
        held = command.action == "hold"
        present = reasons.format_weights(policy.weights)
        reason = f"holds the weights at {present}" if held else f"releases the weights, which are {present}"
        if policy.held == held:
            reason += "; they are held already" if held else "; nobody held them"
        return self._accept(command, at, reason, held=held, acted=policy.held != held)

    def _refuse(self, command: PolicyCommand, at: float, why: str) -> Decision:
        reason = f"{command.by} asked to {command.action} it, which cannot be done: {why}"
        return self._versions.decide("refuse", at, reason, by=command.by, command=command.id, acted=False)

    def _accept(
        self,
        command: PolicyCommand,
        at: float,
        reason: str,
        *,
        spec: PolicySpec | None = None,
        after: dict[str, float] | None = None,
        held: bool | None = None,
        acted: bool = True,
    ) -> Decision:
        if acted and spec is not None:
            self._response.apply_spec(spec, close_incidents=after is not None)
        return self._versions.decide(
            command.action,
            at,
            f"{command.by} {reason}" + (f": {command.reason}" if command.reason else ""),
            by=command.by,
            command=command.id,
            spec=spec,
            after=after,
            held=held,
            acted=acted,
        )
