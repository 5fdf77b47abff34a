"""An incident: a variant that was found to be worse, and what has been done about it so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from poise.contracts.policy import Finding


@dataclass(slots=True)
class Incident:
    """A variant that was found to be worse, until it has recovered."""

    finding: Finding
    next_step_at: int
    """The next step is due once this many answers have been counted."""
    announced: bool = False
    """A decision has stated that no variant can take the share, or, in a dry run, which one would."""
    restore_announced: bool = False
    """A decision has stated that, were this no dry run, the share would be restored."""
    restoring: bool = False
    """The variant has recovered, and its share is being restored."""

    def snapshot(self) -> dict[str, Any]:
        """Return it as JSON values, under the names that snapshots of format 1 have."""
        return {
            "finding": self.finding.model_dump(mode="json"),
            "due": self.next_step_at,
            "told": self.announced,
            "offered": self.restore_announced,
            "returning": self.restoring,
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """Return the incident of a snapshot."""
        return cls(
            finding=Finding.model_validate(snapshot["finding"]),
            next_step_at=snapshot["due"],
            announced=snapshot["told"],
            restore_announced=snapshot["offered"],
            restoring=snapshot["returning"],
        )
