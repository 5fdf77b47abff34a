"""The response to incidents: which share moves when a variant is found to be worse, and when it has recovered.

No clock, no I/O.
"""

from collections.abc import Mapping
from typing import Any

from poise.contracts.policy import Action, Decision, Finding, Policy, PolicySpec
from poise.policy import reasons, snapshot_keys, weights
from poise.policy.detection import Detectors, Observation
from poise.policy.detection.detectors import SNAPSHOT_FORMAT as DETECTION_FORMAT
from poise.policy.detection.detectors import same_detection
from poise.policy.incident import Incident
from poise.policy.observations import is_informative
from poise.policy.policy_versions import PolicyVersions
from poise.policy.weights import TOLERANCE


class IncidentResponse:
    """Decides on variants that become worse or recover.

    Args:
        versions: The policy in force, and where decisions are recorded.
    """

    def __init__(self, versions: PolicyVersions) -> None:
        self.answers = 0
        """Answers counted so far."""
        self.detectors: Detectors | None = None
        """The detectors of the variants; None = no policy was ever set."""
        self._versions = versions
        self._incidents: dict[str, Incident] = {}
        self._target_shares: dict[str, float] = {}

    @property
    def drawn(self) -> tuple[str, ...]:
        """The variants that are drawn; those of weight 0 are not."""
        return tuple(name for name, share in self._target_shares.items() if share > 0)

    def observe(self, observation: Observation, at: float) -> Decision | None:
        """Count an answer and return the decision that it leads to, if any.

        Args:
            observation: The answer.
            at: When its run finished, unix seconds.
        """
        policy, detectors = self._versions.current, self.detectors
        if policy is None or detectors is None:
            return None
        self.answers += is_informative(observation)
        finding = detectors.update(observation)
        if finding is not None and finding.variant in self.drawn and self._is_news(finding.variant):
            detectors.watch_recovery(finding.variant, finding.about)
            self._incidents[finding.variant] = incident = Incident(finding, self.answers)
            return self._on_alarm(policy, incident, at)
        for incident in list(self._incidents.values()):
            if self.answers >= incident.next_step_at:
                decision = self._next_step(policy, detectors, incident, at)
                if decision is not None:
                    return decision
        return None

    def _is_news(self, variant: str) -> bool:
        """Return whether an alarm is news: the variant has no incident yet, or its share is being restored."""
        return variant not in self._incidents or self._incidents[variant].restoring

    def _on_alarm(self, policy: Policy, incident: Incident, at: float) -> Decision:
        limits, variant = policy.spec.limits, incident.finding.variant
        what = reasons.describe_finding(incident.finding, limits)
        if policy.held:
            return self._keep_share(policy, incident, at, f"{what}; a person holds the policy: its share stays")
        if policy.weights[variant] <= limits.min_share + TOLERANCE:
            return self._keep_share(policy, incident, at, f"{what}; it has the least share already")
        return self._decrease(policy, incident, at, what)

    def _next_step(self, policy: Policy, detectors: Detectors, incident: Incident, at: float) -> Decision | None:
        """Return the next decision on an incident that began some answers ago; None = none is due."""
        limits, variant = policy.spec.limits, incident.finding.variant
        recovered = detectors.recovered(variant)
        if recovered is not None:
            return self._restore_share(policy, detectors, incident, recovered, at)
        if incident.restoring or policy.held or policy.weights[variant] <= limits.min_share + TOLERANCE:
            return None
        if incident.stay_announced and (policy.spec.dry_run or not self._healthy_targets(variant)):
            return None
        found = reasons.describe_finding(incident.finding, limits)
        return self._decrease(policy, incident, at, f"{variant} has not recovered (it was: {found})")

    def _healthy_targets(self, variant: str) -> list[str]:
        """Return the variants that can take over a variant's share."""
        return [name for name in self.drawn if name != variant and name not in self._incidents]

    def _decrease(self, policy: Policy, incident: Incident, at: float, what: str) -> Decision:
        """Decrease the share of a variant by one step, or state that no other variant can take it."""
        limits, variant = policy.spec.limits, incident.finding.variant
        targets = self._healthy_targets(variant)
        if not targets:
            why = "every other variant is in trouble too" if len(self.drawn) > 1 else "there is no other variant"
            return self._keep_share(policy, incident, at, f"{what}; {why}: its share stays")
        after = weights.decrease(policy.weights, variant, targets, self._target_shares, limits)
        action: Action = "roll back" if after[variant] <= limits.min_share + TOLERANCE else "shift"
        return self._move(policy, incident, incident.finding, at, action=action, after=after, what=what)

    def _restore_share(
        self, policy: Policy, detectors: Detectors, incident: Incident, finding: Finding, at: float
    ) -> Decision | None:
        """Restore the share of a variant that has recovered by one step; None = not now."""
        limits, variant = policy.spec.limits, incident.finding.variant
        what = reasons.describe_recovery(finding, limits)
        # It never lost its share, or a person restored it.
        if policy.weights[variant] >= self._target_shares[variant] - TOLERANCE:
            self._close(detectors, variant)
            reason = f"{what}; its share is what was set, {reasons.percent(policy.weights[variant])}"
            return self._versions.decide("promote", at, reason, variant=variant, finding=finding, acted=False)
        if policy.held or (policy.spec.dry_run and incident.restore_announced):
            return None
        after = weights.restore(policy.weights, variant, self._target_shares, limits)
        decision = self._move(policy, incident, finding, at, action="promote", after=after, what=what)
        if decision.acted:
            incident.restoring = True
            if after[variant] >= self._target_shares[variant] - TOLERANCE:
                self._close(detectors, variant)
            else:
                detectors.watch_recovery(variant, incident.finding.about, restoring=True)
        return decision

    def _move(
        self,
        policy: Policy,
        incident: Incident,
        finding: Finding,
        at: float,
        *,
        action: Action,
        after: dict[str, float],
        what: str,
    ) -> Decision:
        """Move a share by one step; in a dry run, only state the step."""
        limits, variant, dry = policy.spec.limits, incident.finding.variant, policy.spec.dry_run
        incident.next_step_at = self.answers + limits.cooldown_answers
        incident.stay_announced = dry and action != "promote"
        incident.restore_announced = dry and action == "promote"
        reason = f"{what}; {reasons.share_change(variant, policy.weights, after)}"
        reason = f"{reason}, were this no dry run" if dry else reason
        return self._versions.decide(action, at, reason, variant=variant, finding=finding, after=after, acted=not dry)

    def _keep_share(self, policy: Policy, incident: Incident, at: float, reason: str) -> Decision:
        """State once that a variant is worse and that its share stays."""
        incident.stay_announced = not policy.held  # after a release, the step is due and is stated again
        incident.next_step_at = self.answers + policy.spec.limits.cooldown_answers
        variant, finding = incident.finding.variant, incident.finding
        return self._versions.decide("hold", at, reason, variant=variant, finding=finding, acted=False)

    def _close(self, detectors: Detectors, variant: str) -> None:
        del self._incidents[variant]
        detectors.stop_watching(variant)

    # -- changes by people, and snapshots ---------------------------------------------------------------------------

    def apply_spec(self, spec: PolicySpec, *, close_incidents: bool) -> None:
        """Apply a new spec.

        Setting the weights states that each variant may have its share, so all incidents are closed. A variant that is
        still worse is detected again.
        """
        drawn, policy = self.drawn, self._versions.current
        self._target_shares = weights.normalize(spec.weights, spec.limits)
        same = policy is not None and same_detection(policy.spec.limits, spec.limits)
        if self.detectors is None or self.drawn != drawn or not same:
            self.detectors = Detectors(self.drawn, spec.limits)
            self._incidents.clear()
        elif close_incidents:
            for variant in list(self._incidents):
                self._close(self.detectors, variant)

    def snapshot(self) -> dict[str, Any]:
        """Return the incidents and the detectors as JSON values."""
        return {
            snapshot_keys.INCIDENTS: [incident.snapshot() for incident in self._incidents.values()],
            "detectors": self.detectors.snapshot() if self.detectors else None,
        }

    def restore_snapshot(self, spec: PolicySpec, snapshot: Mapping[str, Any] | None) -> None:
        """Continue with the detectors and incidents of a snapshot.

        Without a snapshot, or if another version of Poise wrote the detectors, detection starts from the beginning; the
        weights stay.
        """
        self._target_shares = weights.normalize(spec.weights, spec.limits)
        if snapshot is None or snapshot["detectors"].get("format") != DETECTION_FORMAT:
            self.detectors = Detectors(self.drawn, spec.limits)
            return
        self.detectors = Detectors.restore(self.drawn, spec.limits, snapshot["detectors"])
        for incident in map(Incident.restore, snapshot[snapshot_keys.INCIDENTS]):
            self._incidents[incident.finding.variant] = incident
