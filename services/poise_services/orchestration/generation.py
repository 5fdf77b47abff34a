"""Writing: one run's tries to have its answer written, by the variant that was drawn and then by others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts import Citation, Completion, Generate, Generation, Rung, Usage
from poise.errors import PoiseError, WorkLimitError
from poise.telemetry import count, semconv
from poise.workflows.run import Run
from poise_services.orchestration.answer_check import Rejected
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.fault_rules import (
    CHECK_FAILED,
    FAULT_RULES,
    Route,
    TriedVariant,
    candidates,
    fair_share,
    rule_for,
    signal_of,
)
from poise_services.orchestration.prompt import closed_book, without_passages
from poise_services.orchestration.retrieval import describe_error
from poise_services.orchestration.settings import OrchestrationSettings, Variant

TOKENS_PER_PRICE: Final = 1_000_000
"""Tokens that a price is for."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """A model's words that passed their check."""

    rung: Rung
    variant: str
    text: str
    citations: tuple[Citation, ...]


class Generator:
    """One run's tries.

    Args:
        run: The run.
        question: The question.
        evidence: Reads the passages that the answer is to be written from.
        drawn: The variant that was drawn.
        settings: The variants and the ladder.
        breakers: Which variants are left alone.
        secret: What draws are made with.
    """

    def __init__(
        self,
        run: Run,
        question: str,
        evidence: EvidenceReader,
        drawn: Variant,
        *,
        settings: OrchestrationSettings,
        breakers: Breakers,
        secret: bytes,
    ) -> None:
        self._run = run
        self._question = question
        self._evidence = evidence
        self._drawn = drawn
        self._settings = settings
        self._breakers = breakers
        self._secret = secret
        self._named = {variant.name: variant for variant in settings.variants}
        self._tried: list[TriedVariant] = []
        self._cause = "open"
        self._since: float | None = None
        self._reason = ""
        self._failovers = max_failovers(settings)

    async def by_the_drawn(self) -> GeneratedAnswer | Rejected:
        """Have the drawn variant write, unless it is left alone."""
        drawn = self._drawn
        route = await self._route(lambda: self._admitted([drawn], self._others(drawn)))
        if route.variant is None:
            self._tried.append(TriedVariant(drawn, "anyone"))
            return self.skip(*route.left_alone)
        return await self._write(drawn, "primary", route)

    def skip(self, reason: str | None) -> Rejected:
        """Do not ask the drawn variant; the record says that it was not its fault."""
        self._reason = reason or ""
        self._of_the_draw(skipped=reason)
        return Rejected(reason)

    async def by_another(self) -> GeneratedAnswer | Rejected:
        """Have other variants write, one after another, until one's words pass or no further one may be asked."""
        reasons: list[str | None] = []
        while self._failovers > 0:
            route = await self._route(lambda: self._admitted(self._order(), []))
            reasons += route.left_alone
            if route.variant is None:
                break
            self._failovers -= 1
            count(
                semconv.FAILOVERS, 1, {semconv.VARIANT: self._tried[-1].variant.name, semconv.ERROR_TYPE: self._cause}
            )
            outcome = await self._write(self._named[route.variant], "variant", route)
            if isinstance(outcome, GeneratedAnswer):
                return outcome
            reasons.append(outcome.reason)
        if not reasons and self._failovers > 0:
            return Rejected("no other variant is worth asking")
        return Rejected("; ".join(filter(None, dict.fromkeys(reasons))) or None)

    # -- one try --------------------------------------------------------------------------------------------------

    async def _write(self, variant: Variant, rung: Rung, route: Route) -> GeneratedAnswer | Rejected:
        given = fair_share(self._run.for_steps(), route.others)
        step = "generate" if rung == "primary" else f"generate.{variant.name}"
        try:
            request = await self._request(variant, route)
            if rung != "primary" and self._run.words is not None:  # what was streamed so far does not count
                await self._run.words.reset(self._reason, rung=rung)
            completion = await self._run.stream(request, id=step, timeout=given)
        except WorkLimitError as error:  # of reading the passages, which others would have to read as well
            self._breakers.record(variant.name, self._since, "nothing")
            self._tried.append(TriedVariant(variant, "nobody"))
            return self.skip(str(error)) if rung == "primary" else self._broken(str(error))
        except PoiseError as error:
            if rung == "primary" and given > 0:
                self._of_the_draw(ms=self._run.steps[-1].ms)
            elif rung == "primary":
                self._of_the_draw(skipped="no time was left for it")
            return self._failed(variant, error, given)
        except BaseException:  # cancelled, or a bug of ours: no word of the variant's
            self._breakers.record(variant.name, self._since, "nothing")
            raise
        if rung == "primary":
            self._of_the_draw(
                raw=completion.text,
                finish_reason=completion.finish_reason,
                ms=self._run.steps[-1].ms,
                cost=cost(completion.usage, variant),
            )
        return await self._checked(variant, rung, completion)

    def _of_the_draw(self, **seen: object) -> None:
        """Have the record say what was seen of the drawn variant."""
        notes = self._run.notes
        if notes.draw is not None:
            notes.draw = notes.draw.model_copy(update=seen)

    async def _request(self, variant: Variant, route: Route) -> Generate:
        if route.closed_book:
            messages = closed_book(self._question, variant.system)
        else:
            messages = await self._evidence.prompt(self._question, variant)
        return Generate(
            messages=messages,
            backend=variant.backend,
            max_tokens=variant.max_tokens,
            temperature=variant.temperature,
            patience=0.0 if route.elsewhere else None,
        )

    def _failed(self, variant: Variant, error: PoiseError, given: float) -> Rejected:
        fault = error.fault()
        self._breakers.record(variant.name, self._since, signal_of(fault, given), fault.retry_after, error=fault.detail)
        self._tried.append(TriedVariant(variant, rule_for(fault.type).then))
        self._cause = fault.type if fault.type in FAULT_RULES else "other"
        self._run.notes.generations.append(Generation(variant=variant.name, fault=fault.type))
        return self._broken(describe_error(self._who(variant), error))

    async def _checked(self, variant: Variant, rung: Rung, completion: Completion) -> GeneratedAnswer | Rejected:
        self._breakers.record(variant.name, self._since, "answered")
        ladder, who = self._settings.ladder, self._who(variant)
        notes, found = self._run.notes, await self._evidence.check(completion, self._question, ladder, who)
        broken = found.reason if isinstance(found, Rejected) else None
        notes.generations.append(
            Generation(variant=variant.name, raw=completion.text, finish_reason=completion.finish_reason, broken=broken)
        )
        if isinstance(found, Rejected):
            self._tried.append(TriedVariant(variant, CHECK_FAILED.then))
            self._cause = "check"
            return self._broken(found.reason)
        return GeneratedAnswer(rung, variant.name, completion.text.strip(), found)

    def _broken(self, reason: str | None) -> Rejected:
        self._reason = reason or ""
        return Rejected(reason)

    # -- who is asked ---------------------------------------------------------------------------------------------

    async def _route(self, choose: Callable[[], Route]) -> Route:
        """Who is asked; a run that is begun again has it from its journal, for the breakers have gone on."""
        self._since = None
        admitted: str | None = None

        async def chosen() -> Route:
            nonlocal admitted
            route = choose()
            admitted = route.variant
            return route

        try:
            return await self._run.step("route", chosen, returns=Route, id=f"route.{len(self._tried)}", recorded=False)
        except BaseException:  # the run was cut off while that was kept: who was admitted is not asked
            if admitted is not None:
                self._breakers.record(admitted, self._since, "nothing")
            raise

    def _admitted(self, order: list[Variant], spare: list[Variant]) -> Route:
        left_alone: list[str] = []
        for place, variant in enumerate(order):
            self._since = self._breakers.admit(variant.name)
            if self._since is not None:
                after = self._may_follow([*order[place + 1 :], *spare])
                return Route(
                    variant=variant.name,
                    left_alone=tuple(left_alone),
                    others=len(after),
                    elsewhere=any(other.backend != variant.backend for other in after),
                    closed_book=self._closed_book(variant),
                )
            why = self._breakers.because(variant.name)
            left_alone.append(f"{self._who(variant)} is left alone, it failed lately{why}")
        return Route(left_alone=tuple(left_alone))

    def _closed_book(self, variant: Variant) -> bool:
        return without_passages(self._secret, self._run.id, variant.name, variant.without_passages)

    def _may_follow(self, others: list[Variant]) -> list[Variant]:
        states = self._breakers.states()
        most = self._failovers - (1 if self._tried else 0)  # a failover that is about to be made is one of those
        return [variant for variant in others if states[variant.name] != "open"][: max(0, most)]

    def _order(self) -> list[Variant]:
        return candidates(self._settings.variants, self._tried, self._breakers.states())

    def _others(self, drawn: Variant) -> list[Variant]:
        return candidates(self._settings.variants, [TriedVariant(drawn, "anyone")])

    def _who(self, variant: Variant) -> str:
        return variant.name if len(self._named) > 1 else "the model"


def cost(usage: Usage, variant: Variant) -> float | None:
    """What a variant's words cost, in the currency of its prices; None = it has none, or its backend counts nothing."""
    if variant.price_in is None or variant.price_out is None or not (usage.prompt_tokens or usage.completion_tokens):
        return None
    return (usage.prompt_tokens * variant.price_in + usage.completion_tokens * variant.price_out) / TOKENS_PER_PRICE


def max_failovers(settings: OrchestrationSettings) -> int:
    """How many other variants may be asked for one answer."""
    ladder = settings.ladder
    return min(ladder.failovers, len(settings.variants) - 1) if "variant" in ladder.rungs else 0
