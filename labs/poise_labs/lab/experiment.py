"""An experiment arm: one run of a scenario with the loop on or off, and the result of each request."""

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
"""Concurrent asks. If the mesh does not keep up, further asks wait, and the report has the actual rate."""
ASK_TIMEOUT: Final = 30.0
"""The timeout of each ask, in seconds."""
CLOSING_COMMANDS: Final = 20

Progress = Callable[[int, int], None]
"""Receives the number of finished asks and the total."""


@dataclass(frozen=True, slots=True)
class LabRequest:
    """One ask and its result."""

    number: int
    sent: float
    """Unix seconds."""
    seconds: float
    """The time that the caller waited."""
    rung: str
    """`none` for an error."""
    misled: bool
    """Whether a model's wrong answer was sent."""
    drawn: str | None
    """The variant that was drawn for it; None = there is no record."""
    during_degradation: bool
    """Whether it was made during the degradation."""
    hurt: bool
    """As the scenario defines it."""
    right: bool | None
    """Whether the drawn variant's answer is right; None = it gave none."""
    quality: float | None
    """The score that evaluation gave it."""
    score: int | None
    """The offset of its score."""
    counted: bool
    """Whether the drawn variant was asked, so that the request counts for or against it."""


@dataclass(frozen=True, slots=True)
class ExperimentArm:
    """One run of a scenario."""

    loop: bool
    """False = decisions were recorded, not acted on."""
    seed: int
    requests: tuple[LabRequest, ...]
    decisions: tuple[tuple[float, Decision], ...]
    """When each was written, unix seconds."""
    policies: tuple[tuple[float, Policy], ...]


@dataclass(frozen=True, slots=True)
class _FinishedAsk:
    number: int
    sent: float
    seconds: float
    answer: Answer | None


async def run_arm(
    environment: LabEnvironment, questions: list[LabQuestion], seed: int, *, loop: bool, rate: float, progress: Progress
) -> ExperimentArm:
    """Run a scenario once.

    Args:
        environment: The mesh.
        questions: The question of each ask, in order.
        seed: The seed of the scripted answers.
        loop: Whether the loop acts.
        rate: Asks per second.
        progress: Receives the progress.

    Raises:
        PoiseError: There is no decision, or answers are not scored.
    """
    scenario, policy = environment.scenario, f"{LAB}-{seed}-{'on' if loop else 'off'}-{new_command_id()[-6:]}"
    environment.backend.prepare(scenario, questions, seed)
    async with LabObserver(environment.poise.mesh, policy) as observer:
        await environment.command(policy, _set(scenario, policy, dry_run=not loop))
        await environment.follow(policy)
        asked = await _ask_all(environment, questions, rate, progress)
        runs = [one.answer.run_id for one in asked if one.answer is not None]
        await observer.scored(runs)
        await _close(environment, observer, policy)
    requests = tuple(_request(one, observer, scenario, environment.backend, questions[one.number]) for one in asked)
    return ExperimentArm(loop, seed, requests, tuple(observer.decisions), tuple(observer.policies))


def _set(scenario: Scenario, policy: str, *, dry_run: bool) -> PolicyCommand:
    weights = {variant.name: variant.weight for variant in scenario.variants}
    spec = PolicySpec(name=policy, weights=weights, limits=scenario.policy, dry_run=dry_run)
    return PolicyCommand(id=new_command_id(), action="set", spec=spec, by=LAB)


async def _close(environment: LabEnvironment, observer: LabObserver, policy: str) -> None:
    """Wait until the decider has read every score: a command's decision has the decider's position."""
    last = max((offset for offset, _ in observer.scores.values()), default=-1)
    for action in ("hold", "release") * (CLOSING_COMMANDS // 2):
        closing = await environment.command(policy, PolicyCommand(id=new_command_id(), action=action, by=LAB))
        if closing.next_score_offset > last:
            return
    reached = closing.next_score_offset
    raise UnavailableError(f"policy {policy}: the decider has read scores up to {reached}, not up to {last}")


async def _ask_all(
    environment: LabEnvironment, questions: list[LabQuestion], rate: float, progress: Progress
) -> list[_FinishedAsk]:
    """Ask at a fixed rate, regardless of earlier results (open loop)."""
    slots, began, done = asyncio.Semaphore(MAX_IN_FLIGHT), time.time(), 0
    begins = environment.scenario.degradation.begins if environment.scenario.degradation else None

    async def ask(number: int) -> _FinishedAsk:
        nonlocal done
        sent = time.time()
        try:
            answer = await environment.poise.ask(questions[number].text, timeout=ASK_TIMEOUT, cache="no-store")
        except PoiseError:
            answer = None  # counted with the rung `none`
        finally:
            slots.release()
            done += 1
            progress(done, len(questions))
        return _FinishedAsk(number, sent, time.time() - sent, answer)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(len(questions)):
            await asyncio.sleep(max(0.0, began + number / rate - time.time()))
            await slots.acquire()
            if number == begins:
                environment.backend.start_degradation()
            tasks.append(group.create_task(ask(number)))
    return [task.result() for task in tasks]


def _request(
    asked: _FinishedAsk, observer: LabObserver, scenario: Scenario, backend: ScriptedBackend, question: LabQuestion
) -> LabRequest:
    answer = asked.answer
    record = observer.records.get(answer.run_id) if answer else None
    offset, score = observer.scores.get(answer.run_id, (None, None)) if answer else (None, None)
    draw = record.draw if record else None
    during_degradation = scenario.is_degraded(asked.number)
    # Without an answer there is no record: the request was hurt, whichever variant was drawn.
    hurt = is_hurt(record, asked.number, scenario, backend) if record is not None else during_degradation
    wrote = answer is not None and answer.rung in {"primary", "variant"}
    return LabRequest(
        number=asked.number,
        sent=asked.sent,
        seconds=asked.seconds,
        rung=answer.rung if answer else "none",
        misled=wrote and answer is not None and not question.right(answer.text),
        drawn=draw.variant if draw else None,
        during_degradation=during_degradation,
        hurt=hurt,
        right=question.right(draw.raw) if draw and draw.raw is not None else None,
        quality=_quality(score, scenario),
        score=offset,
        counted=draw is not None and draw.skipped is None,
    )


def is_hurt(record: RunRecord, number: int, scenario: Scenario, backend: ScriptedBackend) -> bool:
    """Return whether the degradation hurt a request, according to the backend's ground truth.

    Args:
        record: The run's record.
        number: The number of the ask.
        scenario: Defines what counts as hurt.
        backend: Has the ground truth.
    """
    draw, degradation = record.draw, scenario.degradation
    if draw is None or degradation is None or draw.variant != degradation.variant or not scenario.is_degraded(number):
        return False
    outcome = backend.outcome(draw.variant, number)
    if scenario.hurt == "failed":
        if draw.skipped is not None:
            return SKIPPED_AFTER_FAILURES in draw.skipped
        faults = [
            attempt for attempt in record.generations if attempt.variant == draw.variant and attempt.fault is not None
        ]
        return bool(faults) and outcome is not None and outcome.faults > 0
    if outcome is None or outcome.answer is None or not outcome.answer.harmed:
        return False
    if scenario.hurt == "slow":
        return draw.ms is not None and draw.ms > (scenario.policy.max_latency or 0.0) * 1_000
    return draw.raw is not None


def _quality(score: Score | None, scenario: Scenario) -> float | None:
    return None if score is None else score.values.get(scenario.policy.score)
