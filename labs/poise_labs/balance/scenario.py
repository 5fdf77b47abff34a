"""The act: calm, trouble, away from it, back. Each part ends by what is seen on the topics, or says that it was not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts.policy import PolicyCommand, PolicySpec
from poise.errors import UnavailableError
from poise.policy.control import execute, new_command_id
from poise.worker.connection import MeshConnection
from poise_labs.balance.environment import SECOND, STEADY, WITHOUT_PASSAGES
from poise_labs.balance.load import LoadGenerator
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.timeline import EventKind, Timeline, TimelineEvent, format_percent

DECISION_TIMEOUT: Final = 30.0
"""Seconds until somebody decides on the command that sets the policy."""
FIRST_SCORE_TIMEOUT: Final = 120.0
"""Seconds until the first answer is scored."""

Deploy = Callable[[float], Awaitable[None]]
"""Deploys the variants anew; the second one lacks its passages in this share of its prompts."""


@dataclass(frozen=True, slots=True)
class BalancePlan:
    """How long each part of the act is, in scored answers."""

    calm: int = 50
    """Before the trouble."""
    patience: int = 250
    """Until the trouble is noticed, else the act says that it was not."""
    after: int = 30
    """With the trouble, once it was noticed: it is away from most asks by then."""
    recovery: int = 350
    """Until the variant has earned its way back."""
    end: int = 20
    """After that."""
    trouble: bool = True
    """Whether there is any; else the stream runs calm for as long as the rest would take."""

    @property
    def quiet(self) -> int:
        """How many answers an act without trouble has."""
        return self.calm + self.patience // 2 + self.recovery // 4


@dataclass(frozen=True, slots=True)
class BalanceScenario:
    """What the act is played with."""

    mesh: MeshConnection
    watching: BalanceObserver
    stream: LoadGenerator
    spec: PolicySpec
    deploy: Deploy
    plan: BalancePlan = BalancePlan()

    async def play(self) -> None:
        """Play it; it can be cancelled at any moment.

        Raises:
            UnavailableError: Nothing answers, or nobody decides.
        """
        await self._deploy(0.0, "Setting the stage", "Two variants of the answer workflow are deployed, both sound.")
        await self._set()
        try:
            async with asyncio.TaskGroup() as together:  # when nothing answers any more, the parts are cancelled
                flowing = together.create_task(self.stream.flow())
                await self._parts()
                flowing.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    # -- the parts ------------------------------------------------------------------------------------------------

    async def _parts(self) -> None:
        if not await self._first():
            raise UnavailableError("no answer was scored: see that an evaluation worker runs (`poise status`)")
        await (self._with_trouble() if self.plan.trouble else self._without_trouble())

    async def _first(self) -> bool:
        self._say(
            "All is well",
            f"Real questions arrive; {self._halves()}. Both variants are the same small model with the same prompt. "
            "Each answer is scored at once, 0 to 1: how likely it is right, by the passages that were found for it.",
        )
        return await self.watching.until(lambda history: bool(history.answers), answers=1, seconds=FIRST_SCORE_TIMEOUT)

    async def _without_trouble(self) -> None:
        await self._pass(self.plan.quiet)
        moved = [one.id for one in self.watching.decisions if one.by == "loop" and one.acted]
        told = f"the loop moved weights: {', '.join(moved)}" if moved else "no weight moved"
        self._say("The end", f"{len(self._history.answers)} answers without any trouble: {told}.")

    async def _with_trouble(self) -> None:
        await self._pass(self.plan.calm)
        without = f"{round(10 * WITHOUT_PASSAGES)} of 10 of its prompts are sent without their passages"
        await self._deploy(
            WITHOUT_PASSAGES,
            "A fault, and nobody says so",
            f"{SECOND} was deployed with a fault: {without}, so the model makes its answers up. Nothing raises an "
            "error, every ask is answered. Will the mesh notice?",
            TimelineEvent(time.time(), "trouble", f"{SECOND} is deployed with a fault: {without}"),
        )
        if not await self.watching.until(_has("noticed"), answers=self.plan.patience):
            self._say("Not noticed", f"It was not noticed within {self.plan.patience} answers. The act ends here.")
            return
        await self.watching.find_example()
        example = self._history.example
        such = f" Asked “{example.question}”, it had written “{example.words}”" if example is not None else ""
        self._say(
            "Noticed, and moved away",
            f"The evidence against {SECOND} reached the threshold, so most of its asks go to {STEADY} now. It keeps a "
            f"small share: with no answers of it, a recovery could not be seen.{such}",
        )
        await self._pass(self.plan.after)
        await self._deploy(
            0.0,
            "The fault is mended",
            f"{SECOND} was deployed without the fault. Nobody tells the mesh: its share comes back only when its own "
            "answers show that it is no worse than the other.",
            TimelineEvent(time.time(), "fixed", f"{SECOND} is deployed without the fault"),
        )
        if not await self.watching.until(self._is_back, answers=self.plan.recovery):
            self._say("Not back yet", f"{SECOND} has not shown within {self.plan.recovery} answers that it recovered.")
            return
        self._say(
            "Back where a person set it",
            f"{SECOND} earned its way back: its new answers are good. Again {self._halves()}.",
        )
        await self._pass(self.plan.end)

    def _is_back(self, history: Timeline) -> bool:
        target = self.spec.weights[SECOND] / sum(self.spec.weights.values())
        return _has("back")(history) and history.share(SECOND) > target - 0.01

    def _halves(self) -> str:
        total = sum(self.spec.weights.values())
        return ", ".join(
            f"{name} answers {format_percent(weight / total)}" for name, weight in self.spec.weights.items()
        )

    # -- what they are made of ------------------------------------------------------------------------------------

    @property
    def _history(self) -> Timeline:
        return self.watching.history

    def _say(self, headline: str, story: str) -> None:
        self._history.headline, self._history.story = headline, story

    async def _pass(self, answers: int) -> None:
        """Let so many answers go by."""
        await self.watching.until(lambda _: False, answers=answers)

    async def _deploy(
        self, without_passages: float, headline: str, story: str, mark: TimelineEvent | None = None
    ) -> None:
        self._say(headline, story)
        if mark is not None:
            self._history.marks.append(mark)
        await self.deploy(without_passages)

    async def _set(self) -> None:
        command = PolicyCommand(id=new_command_id(), action="set", spec=self.spec, by="the act")
        await execute(self.mesh.logs, self.mesh.producer, self.spec.name, command, within=DECISION_TIMEOUT)
        await self.watching.until(
            lambda _: any(one.command == command.id for one in self.watching.decisions),
            answers=1,
            seconds=DECISION_TIMEOUT,
        )


def _has(kind: EventKind) -> Callable[[Timeline], bool]:
    return lambda history: history.mark(kind) is not None
