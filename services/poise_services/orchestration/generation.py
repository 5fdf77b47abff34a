"""Generation: calls inference for a variant, and records the result in the run record."""

from collections.abc import Sequence
from typing import Final

from poise.contracts import ChatMessage, Completion, Generate, Generation, Rung, Usage
from poise.errors import PoiseError, WorkLimitError
from poise.workflows.run import Run
from poise_services.orchestration.answer_check import CheckFailed
from poise_services.orchestration.retrieval import describe_error
from poise_services.orchestration.rung_outcome import NoAnswer
from poise_services.orchestration.settings import Variant
from poise_services.orchestration.variant_router import Route, VariantRouter

TOKENS_PER_PRICE: Final = 1_000_000
"""The number of tokens that a price is for."""


class VariantAttempts:
    """The attempts to generate the answer of one run, one for each variant that is asked.

    Args:
        run: The run.
        router: Chooses the variants.
    """

    def __init__(self, run: Run, router: VariantRouter) -> None:
        self.run = run
        self.router = router
        self.last_reason = ""
        """Why the last variant did not provide the answer."""

    def skip_drawn(self, reason: str | None) -> NoAnswer:
        """Skip the drawn variant; the run record marks it as skipped, not as failed."""
        self.annotate_draw(skipped=reason)
        return self.no_answer(reason)

    def no_answer(self, reason: str | None) -> NoAnswer:
        """Return why a variant does not provide the answer; the next `reset` of the stream gives the same reason."""
        self.last_reason = reason or ""
        return NoAnswer(reason)

    def begin(self, route: Route, rung: Rung) -> "VariantAttempt":
        """Begin an attempt with the variant of a route."""
        return VariantAttempt(self, route, rung)

    def annotate_draw(self, **values: object) -> None:
        """Add what was observed of the drawn variant to the run record."""
        annotations = self.run.annotations
        if annotations.draw is not None:
            annotations.draw = annotations.draw.model_copy(update=values)


class VariantAttempt:
    """One attempt to generate an answer with one variant."""

    def __init__(self, attempts: VariantAttempts, route: Route, rung: Rung) -> None:
        router = attempts.router
        self.variant: Final = router.variant_of(route)
        self.label: Final = router.label(self.variant)
        self.route: Final = route
        self._attempts = attempts
        self._router = router
        self._run = attempts.run
        self._rung = rung
        self._budget = router.budget(route)

    async def generate(self, messages: Sequence[ChatMessage]) -> Completion:
        """Call inference, and stream the tokens to the caller.

        Raises:
            PoiseError: The variant failed or had no time; see `record_error`.
        """
        variant = self.variant
        run = self._run
        primary = self._rung == "primary"
        request = Generate(
            messages=tuple(messages),
            backend=variant.backend,
            max_tokens=variant.max_tokens,
            temperature=variant.temperature,
            patience=0.0 if self.route.other_backend else None,  # do not wait for a backend that limits its rate
        )
        if not primary and run.stream_writer is not None:  # discard the tokens of the last attempt
            await run.stream_writer.reset(self._attempts.last_reason, rung=self._rung)
        step = "generate" if primary else f"generate.{variant.name}"
        completion = await run.call(request, id=step, timeout=self._budget, stream=True)
        self._router.record_answer(variant)
        if primary:
            self._attempts.annotate_draw(
                raw=completion.text,
                finish_reason=completion.finish_reason,
                ms=self._call_ms,
                cost=cost(completion.usage, variant),
            )
        return completion

    def record_prompt_error(self, error: WorkLimitError) -> NoAnswer:
        """Record that the prompt could not be built within its limits."""
        self._router.record_no_prompt(self.variant)
        skip = self._attempts.skip_drawn if self._rung == "primary" else self._attempts.no_answer
        return skip(str(error))

    def record_error(self, error: PoiseError) -> NoAnswer:
        """Record that the variant failed."""
        if self._rung == "primary" and self._budget > 0:
            self._attempts.annotate_draw(ms=self._call_ms)
        elif self._rung == "primary":
            self._attempts.annotate_draw(skipped="no time was left for it")
        fault = error.fault()
        self._router.record_fault(self.variant, fault, self._budget)
        self._run.annotations.generations.append(Generation(variant=self.variant.name, fault=fault.type))
        return self._attempts.no_answer(describe_error(self.label, error))

    def record_rejection(self, completion: Completion, failure: CheckFailed) -> NoAnswer:
        """Record that the answer did not pass its check."""
        self._annotate(completion, failure.reason)
        self._router.record_rejection(self.variant)
        return self._attempts.no_answer(failure.reason)

    def record_accepted(self, completion: Completion) -> None:
        """Record that the answer passed its check."""
        self._annotate(completion, None)

    def release(self) -> None:
        """Record that the attempt says nothing about the variant: it was not asked, or the call was cancelled."""
        self._router.release(self.variant)

    @property
    def _call_ms(self) -> float:
        """How long the call took: its step is the last one, because no other task has run since it ended."""
        return self._run.steps[-1].ms

    def _annotate(self, completion: Completion, check_error: str | None) -> None:
        self._run.annotations.generations.append(
            Generation(
                variant=self.variant.name,
                raw=completion.text,
                finish_reason=completion.finish_reason,
                broken=check_error,
            )
        )


def cost(usage: Usage, variant: Variant) -> float | None:
    """Return the cost of a completion in the currency of the variant's prices.

    None = the variant has no prices, or its backend reports no tokens.
    """
    input_price, output_price = variant.input_token_price, variant.output_token_price
    if input_price is None or output_price is None or not (usage.prompt_tokens or usage.completion_tokens):
        return None
    return (usage.prompt_tokens * input_price + usage.completion_tokens * output_price) / TOKENS_PER_PRICE
