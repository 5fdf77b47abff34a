"""The ladder of the answer: what is said when the rung above cannot be stood on, and why."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from poise.contracts import Answer, Ask, Citation, Rung
from poise.runs import Run
from poise.scoring import Evidence, extract
from services.orchestration.canned import choose
from services.orchestration.checking import Broken
from services.orchestration.retrieving import Retrieved
from services.orchestration.settings import Ladder, Variant
from services.orchestration.writing import Writing, Written


class StaleAnswers(Protocol):
    """Answers that were worked out for earlier asks, and are not fresh any more."""

    async def stale(self, run: Run, ask: Ask, variant: Variant) -> Answer | None:
        """One that may stand in, as it was given then, with its age in seconds; None = there is none.

        Args:
            run: The run that has no answer of its own.
            ask: What is asked.
            variant: The variant that was drawn: those of its family answer for it.
        """


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when an answer is chosen, and what can still be done for it."""

    run: Run
    ask: Ask
    drawn: Variant
    found: Retrieved
    evidence: Evidence
    writing: Writing
    stale: StaleAnswers | None
    settings: Ladder


@dataclass(frozen=True, slots=True)
class Standing:
    """A rung that bears: what is said from it."""

    rung: Rung
    text: str
    citations: tuple[Citation, ...] = ()
    variant: str | None = None
    """Whose words these are; None = no model's."""
    earlier: Answer | None = None
    """The earlier answer that stands in."""
    reason: str | None = None
    """Why it is not the first rung."""


RungOf = Callable[[Situation], Awaitable[Standing | Broken]]


async def primary(now: Situation) -> Standing | Broken:
    """The drawn variant's words, if the passages bear them."""
    if not now.found.passages:
        return now.writing.skip(now.found.trouble)
    return _standing(await now.writing.by_the_drawn())


async def variant(now: Situation) -> Standing | Broken:
    """Another variant's words, if the passages bear them."""
    if not now.found.passages:
        return Broken(now.found.trouble)
    return _standing(await now.writing.by_another())


async def stale(now: Situation) -> Standing | Broken:
    """An answer to an earlier ask of the same: not where the index itself says that there is nothing any more."""
    if now.stale is None:
        return Broken()
    if not now.found.passages and not now.found.failed:
        return Broken(now.found.trouble)
    earlier = await now.stale.stale(now.run, now.ask, now.drawn)
    if earlier is None:
        return Broken("no earlier answer is kept")
    return Standing("stale", earlier.text, earlier.citations, earlier.variant, earlier)


async def extractive(now: Situation) -> Standing | Broken:
    """The sentences of the passages that answer best, word for word."""
    lines = extract(now.ask.question, now.evidence, now.settings.extractive_sentences)
    if not lines:
        return Broken("no passage bears on the question")
    lines.sort(key=lambda line: (line.rank, line.index))
    return Standing("extractive", " ".join(line.sentence for line in lines), tuple(line.citation for line in lines))


async def canned(now: Situation) -> Standing | Broken:
    """A fixed text: the last rung always bears."""
    return Standing("canned", choose(now.settings.canned, now.run.tenant, now.ask.language))


LADDER: Final[Mapping[Rung, RungOf]] = MappingProxyType(
    {
        "primary": primary,
        "variant": variant,
        "stale": stale,
        "extractive": extractive,
        "canned": canned,
    }
)


async def step_down(now: Situation) -> Standing:
    """The highest rung of the settings that bears, with why those above it do not, each reason once."""
    reasons: list[str | None] = []
    for rung in now.settings.rungs:
        outcome = await LADDER[rung](now)
        if isinstance(outcome, Standing):
            reason = "; ".join(filter(None, dict.fromkeys(reasons))) or None
            return Standing(outcome.rung, outcome.text, outcome.citations, outcome.variant, outcome.earlier, reason)
        reasons.append(outcome.reason)
    raise AssertionError("the last rung bears always")


def _standing(outcome: Written | Broken) -> Standing | Broken:
    if isinstance(outcome, Broken):
        return outcome
    return Standing(outcome.rung, outcome.text, outcome.citations, outcome.variant)
