"""The reply to an ask: built from a rung of the ladder or from the cache, streamed, and measured."""

import time

from poise.contracts import Answer
from poise.errors import TerminalError
from poise.redis.answer_store import CachedAnswer
from poise.rpc.encoding import encode
from poise.telemetry import count, current_span, measure, semconv, span
from poise.worker.context import Context
from poise.workflows.run import Run
from poise_services.orchestration.cache_lookup import CacheDecision
from poise_services.orchestration.retrieval import Retrieved
from poise_services.orchestration.rung_outcome import RungResult
from poise_services.orchestration.settings import Variant


async def validate(answer: object, workflow: str, context: Context) -> None:
    """Check that a workflow returned an answer that can be sent.

    Raises:
        EncodingError: A field of the answer cannot be encoded as JSON.
        TerminalError: It is not an `Answer`, or it is too large for a reply.
    """
    if not isinstance(answer, Answer):  # nothing checks the annotation of a user's workflow
        raise TerminalError(f"workflow {workflow!r} returned {type(answer).__name__}: return an Answer")
    size = len(encode(answer))
    max_size = await context.max_body_bytes()
    if size > max_size:
        message = f"workflow {workflow!r} returned an answer of {size} bytes, and a reply holds at most {max_size}"
        raise TerminalError(f"{message}: return a shorter one")


def build(run: Run, result: RungResult, retrieved: Retrieved) -> Answer:
    """Build the answer from the result of the rung that applied."""
    earlier = result.earlier
    return Answer(
        run_id=run.id,
        text=result.text,
        citations=result.citations,
        rung=result.rung,
        reason=result.reason,
        variant=result.variant,
        epoch=earlier.epoch if earlier else retrieved.epoch,
        retrieval=retrieved.mode,
        degraded=retrieved.warnings,
        cached=earlier is not None,
        age=earlier.age if earlier else None,
        timings=run.timings(),
    )


async def stream(run: Run, result: RungResult) -> None:
    """Stream the text of a rung that no model answered; inference has streamed a model's tokens already."""
    if run.stream_writer is not None and result.rung not in {"primary", "variant"}:
        await run.stream_writer.reset(result.reason or result.rung, rung=result.rung)
        await run.stream_writer.write(result.text)


async def send_cached(run: Run, cached: CachedAnswer, decision: CacheDecision, variant: Variant) -> Answer:
    """Stream and return a cached answer as the answer to this ask."""
    with span(semconv.ANSWER, attributes={semconv.VARIANT: variant.name}):
        if run.stream_writer is not None:
            await run.stream_writer.write(cached.answer.text)
        run.annotations.cached = True
        answer = cached.answer.model_copy(
            update={
                "run_id": run.id,
                "rung": "stale" if decision.result == "stale" else cached.answer.rung,
                "reason": decision.reason,
                "cached": True,
                "age": (cached.answer.age or 0.0) + max(0.0, time.time() - cached.computed_at),
                "timings": run.timings(),
            }
        )
        record_telemetry(run, answer, variant.name)
    return answer


def record_telemetry(run: Run, answer: Answer, variant: str) -> None:
    """Record the answer in the current span and in the metrics."""
    current = current_span()
    current.set_attribute(semconv.RUNG, answer.rung)
    if answer.reason:
        current.set_attribute(semconv.REASON, answer.reason)
    labels = {semconv.RUNG: answer.rung, semconv.VARIANT: variant}
    count(semconv.ANSWERS, 1, labels)
    measure(semconv.RUN_DURATION, time.time() - run.requested_at, labels)
