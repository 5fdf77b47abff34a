"""The decider of one policy: scores and commands in, decisions out. A pure state machine, which can be replayed."""

from collections.abc import Mapping
from typing import Any, Self

from poise.contracts.policy import Decision, Policy, PolicyCommand
from poise.contracts.record import Score


class Decider:
    """Decides over one policy. No clock, no IO, no randomness: time is that of the answers and commands.

    Args:
        name: The policy's name.
    """

    def __init__(self, name: str) -> None:
        raise NotImplementedError

    @property
    def policy(self) -> Policy | None:
        """What is in force; None = nothing was set yet, and scores are passed over."""
        raise NotImplementedError

    def score(self, score: Score, offset: int) -> list[Decision]:
        """Take in a score (its offset in `poise.scores`); one of a run that was counted already counts no more."""
        raise NotImplementedError

    def command(self, command: PolicyCommand, at: float) -> list[Decision]:
        """Do what a person asks; each command gives one decision, also one that cannot be done (`refuse`).

        Args:
            command: What is asked; one that was done already gives none.
            at: When it was written, unix seconds.
        """
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON has it."""
        raise NotImplementedError

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """Go on from a snapshot, to the bit."""
        raise NotImplementedError
