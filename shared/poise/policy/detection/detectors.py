"""The detectors of one policy: what each answer says of whether a variant has become worse, or has recovered."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from poise.contracts.policy import About, Finding, Limits
from poise.policy.detection.seen import Seen


class Detectors:
    """All detectors of a policy. No clock, no IO, no randomness: the same answers give the same findings.

    Args:
        variants: The variants that are drawn.
        limits: How seldom an alarm may be false, and what is to be kept.
    """

    def __init__(self, variants: Sequence[str], limits: Limits) -> None:
        raise NotImplementedError

    def see(self, answer: Seen) -> Finding | None:
        """Take in an answer; what is returned is an alarm: that variant is worse. It begins anew to watch for it.

        While a variant is watched for recovery, it raises no alarm.
        """
        raise NotImplementedError

    def watch(self, variant: str, about: About) -> None:
        """Begin to watch a variant for recovery of that; called after an alarm, and again after each promotion."""
        raise NotImplementedError

    def recovered(self, variant: str) -> Finding | None:
        """Whether a watched variant has been shown to have recovered, and by what."""
        raise NotImplementedError

    def clear(self, variant: str) -> None:
        """Watch a variant no more: alarms are raised again."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON has it."""
        raise NotImplementedError

    @classmethod
    def restore(cls, variants: Sequence[str], limits: Limits, snapshot: Mapping[str, Any]) -> Self:
        """Go on from a snapshot, to the bit."""
        raise NotImplementedError
