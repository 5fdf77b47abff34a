"""The act: no fault, fault, weight moved away, recovery. Each part ends when the topics show its result."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts.policy import PolicyCommand, PolicySpec
from poise.errors import UnavailableError
from poise.policy.control import new_command_id, send_and_wait
from poise.worker.connection import MeshConnection
from poise_labs.balance.environment import FAULT_SHARE, FAULTY, STEADY
from poise_labs.balance.load import LoadGenerator
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.timeline import EventKind, Timeline, TimelineEvent, format_percent

DECISION_TIMEOUT: Final = 30.0
"""Seconds until the command that sets the policy is decided on."""
FIRST_SCORE_TIMEOUT: Final = 120.0
"""Seconds until the first answer is scored."""

SetFault = Callable[[float], None]
"""Sets the share of the second variant's prompts that lose their passages, 0 to 1."""


@dataclass(frozen=True, slots=True)
class BalancePlan:
    """The length of each part of the act, in scored answers."""

    before_fault: int = 50
    until_noticed: int = 250
    """At most; then the act ends and reports that the fault was not noticed."""
    after_noticed: int = 30
    """With the fault still active; most asks go to the other variant by then."""
    until_restored: int = 350
    """At most, after the fault was fixed."""
    after_restored: int = 20
    fault: bool = True
    """False runs the same load without a fault."""

    @property
    def without_fault(self) -> int:
        """The length of an act without a fault."""
        return self.before_fault + self.until_noticed // 2 + self.until_restored // 4


@dataclass(frozen=True, slots=True)
class BalanceScenario:
    """Runs the act on a deployed stack."""

    mesh: MeshConnection
    observer: BalanceObserver
    load: LoadGenerator
    spec: PolicySpec
    set_fault: SetFault
    plan: BalancePlan = BalancePlan()

    async def run(self) -> None:
        """Run the act to its end. It can be cancelled at any time.

        Raises:
            UnavailableError: The mesh does not answer, or nothing decides on the policy.
        """
        await self._set_policy()
        try:
            async with asyncio.TaskGroup() as tasks:  # when the load fails, the parts are cancelled
                load = tasks.create_task(self.load.run())
                await self._run_parts()
                load.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    # -- the parts ------------------------------------------------------------------------------------------------

    async def _run_parts(self) -> None:
        if not await self._first_score():
            raise UnavailableError("no answer was scored: check that an evaluation worker runs (`poise status`)")
        await (self._run_with_fault() if self.plan.fault else self._run_without_fault())

    async def _first_score(self) -> bool:
        self._say(
            "All is well",
            f"Real questions arrive; {self._weights()}. Both variants are the same small model with the same prompt. "
            "Each answer is scored at once, 0 to 1: how likely it is right, according to the passages found for it.",
        )
        return await self.observer.until(
            lambda timeline: bool(timeline.answers), answers=1, seconds=FIRST_SCORE_TIMEOUT
        )

    async def _run_without_fault(self) -> None:
        await self._wait_for(self.plan.without_fault)
        moves = [decision.id for decision in self.observer.decisions if decision.by == "loop" and decision.acted]
        result = f"the loop moved weights: {', '.join(moves)}" if moves else "no weight moved"
        self._say("The end", f"{len(self._timeline.answers)} answers without a fault: {result}.")

    async def _run_with_fault(self) -> None:
        await self._wait_for(self.plan.before_fault)
        effect = f"{round(10 * FAULT_SHARE)} of 10 of its prompts reach the model without their passages"
        self._change_fault(
            FAULT_SHARE,
            "A fault without an error",
            f"The backend of {FAULTY} has a fault: {effect}, so the model makes its answers up. Nothing raises an "
            "error, every ask is answered. Will the mesh notice?",
            TimelineEvent(time.time(), "fault", f"{FAULTY} gets a fault: {effect}"),
        )
        if not await self.observer.until(_has("noticed"), answers=self.plan.until_noticed):
            self._say(
                "Not noticed", f"The fault was not noticed within {self.plan.until_noticed} answers. The act ends here."
            )
            return
        await self.observer.find_example()
        example = self._timeline.example
        quote = f" Asked “{example.question}”, it wrote “{example.text}”" if example is not None else ""
        self._say(
            "Noticed: its share is decreased",
            f"The evidence against {FAULTY} reached the threshold, so most of its asks go to {STEADY} now. It keeps a "
            f"small share: without answers from it, a recovery could not be seen.{quote}",
        )
        await self._wait_for(self.plan.after_noticed)
        self._change_fault(
            0.0,
            "The fault is fixed",
            f"The fault of {FAULTY} is fixed. Nobody tells the mesh: its share is restored only when its own new "
            "answers show that it is no worse than the other.",
            TimelineEvent(time.time(), "fault_fixed", f"the fault of {FAULTY} is fixed"),
        )
        if not await self.observer.until(self._is_restored, answers=self.plan.until_restored):
            self._say("Not restored yet", f"{FAULTY} has not recovered within {self.plan.until_restored} answers.")
            return
        self._say(
            "Restored to the weight that was set",
            f"The new answers of {FAULTY} are good, so its share is restored. Again {self._weights()}.",
        )
        await self._wait_for(self.plan.after_restored)

    def _is_restored(self, timeline: Timeline) -> bool:
        target = self.spec.weights[FAULTY] / sum(self.spec.weights.values())
        return _has("restored")(timeline) and timeline.share(FAULTY) > target - 0.01

    def _weights(self) -> str:
        total = sum(self.spec.weights.values())
        return ", ".join(
            f"{name} answers {format_percent(weight / total)}" for name, weight in self.spec.weights.items()
        )

    # -- their steps ----------------------------------------------------------------------------------------------

    @property
    def _timeline(self) -> Timeline:
        return self.observer.timeline

    def _say(self, headline: str, story: str) -> None:
        self._timeline.headline, self._timeline.story = headline, story

    async def _wait_for(self, answers: int) -> None:
        """Wait for a number of answers."""
        await self.observer.until(lambda _: False, answers=answers)

    def _change_fault(self, share: float, headline: str, story: str, event: TimelineEvent) -> None:
        self._say(headline, story)
        self._timeline.events.append(event)
        self.set_fault(share)

    async def _set_policy(self) -> None:
        command = PolicyCommand(id=new_command_id(), action="set", spec=self.spec, by="the act")
        await send_and_wait(self.mesh.logs, self.mesh.producer, self.spec.name, command, within=DECISION_TIMEOUT)
        await self.observer.until(
            lambda _: any(decision.command == command.id for decision in self.observer.decisions),
            answers=1,
            seconds=DECISION_TIMEOUT,
        )


def _has(kind: EventKind) -> Callable[[Timeline], bool]:
    return lambda timeline: timeline.first(kind) is not None
