"""An incident: a variant that was found to be worse, and what has been done about it so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from poise.contracts.policy import Finding
from poise.policy import snapshot_keys


@dataclass(slots=True)
class Incident:
    """A variant that was found to be worse, until it has recovered."""

    finding: Finding
    next_step_at: int
    """The next step is due once this many answers have been counted."""
    stay_announced: bool = False
    """A decision has stated that the share stays: no variant can take it, it is the minimum already, or of a dry run.

    False while a person holds the policy, so that a step is decided after the release.
    """
    restore_announced: bool = False
    """A decision has stated that, were this no dry run, the share would be restored."""
    restoring: bool = False
    """The variant has recovered, and its share is being restored."""

    def snapshot(self) -> dict[str, Any]:
        """Return the incident as JSON values."""
        return {
            "finding": self.finding.model_dump(mode="json"),
            snapshot_keys.NEXT_STEP_AT: self.next_step_at,
            snapshot_keys.ANNOUNCED: self.stay_announced,
            snapshot_keys.RESTORE_ANNOUNCED: self.restore_announced,
            snapshot_keys.RESTORING: self.restoring,
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """Return the incident of a snapshot."""
        return cls(
            finding=Finding.model_validate(snapshot["finding"]),
            next_step_at=snapshot[snapshot_keys.NEXT_STEP_AT],
            stay_announced=snapshot[snapshot_keys.ANNOUNCED],
            restore_announced=snapshot[snapshot_keys.RESTORE_ANNOUNCED],
            restoring=snapshot[snapshot_keys.RESTORING],
        )
