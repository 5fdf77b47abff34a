"""An arm: one run of a scenario with the loop on or off, and what became of each of its requests."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts.ask import Answer
from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicySpec
from poise.contracts.record import SKIPPED_AFTER_FAILURES, RunRecord, Score
from poise.errors import PoiseError, UnavailableError
from poise.policy.control import new_command_id
from poise_labs.lab.backend import ScriptedBackend
from poise_labs.lab.environment import LAB, LabEnvironment
from poise_labs.lab.observer import LabObserver
from poise_labs.lab.questions import LabQuestion
from poise_labs.lab.scenario import Scenario

MAX_IN_FLIGHT: Final = 48
"""Requests under way: where the mesh does not keep up, asking waits, and the rate that was had is reported."""
ASK_TIMEOUT: Final = 30.0
"""Seconds that an asker waits."""
CLOSINGS: Final = 20

Progress = Callable[[int, int], None]
"""Told how many asks were answered, and of how many."""


@dataclass(frozen=True, slots=True)
class LabRequest:
    """One ask, and what became of it."""

    number: int
    sent: float
    """Unix seconds."""
    seconds: float
    """That its reader waited."""
    rung: str
    """`none` where an error came."""
    misled: bool
    """A model's words were sent, and they are wrong."""
    drawn: str | None
    """The variant that was drawn for it; None = there is no record."""
    troubled: bool
    """It was made while the trouble lasted."""
    hurt: bool
    """As the scenario defines it."""
    right: bool | None
    """Whether the drawn variant's words are right; None = it brought none."""
    quality: float | None
    """What evaluation thinks of them."""
    score: int | None
    """The offset of its score."""
    counted: bool
    """It says something of the variant that was drawn: it was asked."""


@dataclass(frozen=True, slots=True)
class ExperimentArm:
    """One run of a scenario."""

    loop: bool
    """False = it decided, and did not act."""
    seed: int
    requests: tuple[LabRequest, ...]
    decisions: tuple[tuple[float, Decision], ...]
    """When each was written, unix seconds."""
    policies: tuple[tuple[float, Policy], ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int
    sent: float
    seconds: float
    answer: Answer | None


async def run_arm(
    ground: LabEnvironment, questions: list[LabQuestion], seed: int, *, loop: bool, rate: float, progress: Progress
) -> ExperimentArm:
    """Run a scenario once.

    Args:
        ground: Where.
        questions: What is asked, in this order.
        seed: Of the luck.
        loop: Whether the loop acts.
        rate: Asks a second.
        progress: Told how far it is.

    Raises:
        PoiseError: The mesh does not decide, or does not score.
    """
    scenario, policy = ground.scenario, f"{LAB}-{seed}-{'on' if loop else 'off'}-{new_command_id()[-6:]}"
    ground.backend.prepare(scenario, questions, seed)
    async with LabObserver(ground.poise.mesh, policy) as watch:
        await ground.command(policy, _set(scenario, policy, dry_run=not loop))
        await ground.follow(policy)
        asked = await _ask_all(ground, questions, rate, progress)
        runs = [one.answer.run_id for one in asked if one.answer is not None]
        await watch.scored(runs)
        await _close(ground, watch, policy)
    requests = tuple(_joined(one, watch, scenario, ground.backend, questions[one.number]) for one in asked)
    return ExperimentArm(loop, seed, requests, tuple(watch.decisions), tuple(watch.policies))


def _set(scenario: Scenario, policy: str, *, dry_run: bool) -> PolicyCommand:
    weights = {variant.name: variant.weight for variant in scenario.variants}
    spec = PolicySpec(name=policy, weights=weights, limits=scenario.policy, dry_run=dry_run)
    return PolicyCommand(id=new_command_id(), action="set", spec=spec, by=LAB)


async def _close(ground: LabEnvironment, watch: LabObserver, policy: str) -> None:
    """Wait until every score has been decided on: a command's decision says how far its decider had come."""
    last = max((offset for offset, _ in watch.scores.values()), default=-1)
    for action in ("hold", "release") * (CLOSINGS // 2):
        closing = await ground.command(policy, PolicyCommand(id=new_command_id(), action=action, by=LAB))
        if closing.scores > last:
            return
    raise UnavailableError(f"policy {policy}: scores up to {last} were not decided on, only up to {closing.scores}")


async def _ask_all(
    ground: LabEnvironment, questions: list[LabQuestion], rate: float, progress: Progress
) -> list[_Asked]:
    """Ask open-loop, at a rate, whatever became of those before."""
    places, began, done = asyncio.Semaphore(MAX_IN_FLIGHT), time.time(), 0
    begins = ground.scenario.trouble.begins if ground.scenario.trouble else None

    async def one(number: int) -> _Asked:
        nonlocal done
        sent = time.time()
        try:
            answer = await ground.poise.ask(questions[number].text, timeout=ASK_TIMEOUT, cache="no-store")
        except PoiseError:
            answer = None  # it is counted: its rung is `none`
        finally:
            places.release()
            done += 1
            progress(done, len(questions))
        return _Asked(number, sent, time.time() - sent, answer)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(len(questions)):
            await asyncio.sleep(max(0.0, began + number / rate - time.time()))
            await places.acquire()
            if number == begins:
                ground.backend.trouble_begins()
            tasks.append(group.create_task(one(number)))
    return [task.result() for task in tasks]


def _joined(
    asked: _Asked, watch: LabObserver, scenario: Scenario, backend: ScriptedBackend, question: LabQuestion
) -> LabRequest:
    answer = asked.answer
    record = watch.records.get(answer.run_id) if answer else None
    offset, score = watch.scores.get(answer.run_id, (None, None)) if answer else (None, None)
    draw = record.draw if record else None
    troubled = scenario.troubled(asked.number)
    # Whoever got no answer at all was hurt, whatever was drawn.
    hurt = is_hurt(record, asked.number, scenario, backend) if record is not None else troubled
    wrote = answer is not None and answer.rung in {"primary", "variant"}
    return LabRequest(
        number=asked.number,
        sent=asked.sent,
        seconds=asked.seconds,
        rung=answer.rung if answer else "none",
        misled=wrote and answer is not None and not question.right(answer.text),
        drawn=draw.variant if draw else None,
        troubled=troubled,
        hurt=hurt,
        right=question.right(draw.raw) if draw and draw.raw is not None else None,
        quality=_quality(score, scenario),
        score=offset,
        counted=draw is not None and draw.skipped is None,
    )


def is_hurt(record: RunRecord, number: int, scenario: Scenario, backend: ScriptedBackend) -> bool:
    """Whether the trouble hurt a request, by what the backend knows it did.

    Args:
        record: Its run.
        number: Its number as an ask.
        scenario: What counts as hurt.
        backend: Which knows what it told.
    """
    draw, trouble = record.draw, scenario.trouble
    if draw is None or trouble is None or draw.variant != trouble.variant or not scenario.troubled(number):
        return False
    told = backend.told(draw.variant, number)
    if scenario.hurt == "failed":
        if draw.skipped is not None:
            return SKIPPED_AFTER_FAILURES in draw.skipped
        faults = [tried for tried in record.generations if tried.variant == draw.variant and tried.fault is not None]
        return bool(faults) and told is not None and told.faults > 0
    if told is None or told.said is None or not told.said.troubled:
        return False
    if scenario.hurt == "slow":
        return draw.ms is not None and draw.ms > (scenario.policy.max_latency or 0.0) * 1_000
    return draw.raw is not None


def _quality(score: Score | None, scenario: Scenario) -> float | None:
    return None if score is None else score.values.get(scenario.policy.score)
