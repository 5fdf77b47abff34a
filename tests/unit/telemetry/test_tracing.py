import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import StatusCode

from poise.telemetry import SpanKind, current_span, extract, inject, semconv, span

Finished = Callable[[], Sequence[Any]]
"""Gives the finished spans; Any, since the SDK says None of most that a finished span has."""

SHARED = Path(__file__).parents[3] / "shared"
REMOTE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331


def test_spans_nest_and_have_their_attributes(finished: Finished) -> None:
    with span("outer", kind=SpanKind.SERVER) as outer, span("inner", attributes={semconv.STEP: "ask"}) as inner:
        assert current_span() is inner
        inner.set_attribute(semconv.PASSAGES, 6)

    by_name = {s.name: s for s in finished()}
    assert by_name["inner"].parent.span_id == outer.get_span_context().span_id
    assert dict(by_name["inner"].attributes) == {semconv.STEP: "ask", semconv.PASSAGES: 6}
    assert by_name["outer"].kind is SpanKind.SERVER
    assert by_name["outer"].parent is None
    assert not current_span().is_recording()


def test_parent_of_a_message_takes_precedence_over_the_current_span(finished: Finished) -> None:
    with span("current"), span("process", parent=extract(REMOTE)):
        assert inject()["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")

    process = next(s for s in finished() if s.name == "process")
    assert process.context.trace_id == TRACE_ID
    assert process.parent.span_id == SPAN_ID
    assert process.parent.is_remote


def test_message_without_a_parent_starts_a_new_trace(finished: Finished) -> None:
    with span("current") as current, span("process", parent=extract({})):
        pass

    process = next(s for s in finished() if s.name == "process")
    assert process.parent is None
    assert process.context.trace_id != current.get_span_context().trace_id


@pytest.mark.parametrize(
    "traceparent", ["", "junk", "00-0-0-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff-x-y-z"]
)
def test_malformed_parent_is_ignored(finished: Finished, traceparent: str) -> None:
    with span("process", parent=extract({"traceparent": traceparent, "baggage": "=;,=%zz"})):
        pass

    assert finished()[0].parent is None


def test_injected_context_is_extracted_unchanged() -> None:
    token = context.attach(baggage.set_baggage("region", "eu-1", extract(REMOTE)))
    carried = inject()
    context.detach(token)

    again = extract(carried)
    assert carried == {**REMOTE, "baggage": "region=eu-1"}
    assert baggage.get_baggage("region", again) == "eu-1"
    assert inject() == {}


def test_trace_context_passes_through_a_process_without_recording() -> None:
    with span("unseen", parent=extract(REMOTE)) as unseen:
        assert not unseen.is_recording()
        assert inject()["traceparent"] == REMOTE["traceparent"]


def test_unsampled_trace_stays_unsampled_downstream(finished: Finished) -> None:
    refused = {"traceparent": REMOTE["traceparent"][:-1] + "0"}
    with span("process", parent=extract(refused)) as process, span("below") as below:
        assert not process.is_recording()
        assert below is process
        assert inject()["traceparent"] == (f"00-{TRACE_ID:032x}-{process.get_span_context().span_id:016x}-00")

    with span("next") as following:
        assert following.is_recording()
    assert [one.name for one in finished()] == ["next"]


def test_error_propagates_without_recording() -> None:
    with pytest.raises(KeyError), span("outer"), span("inner"):
        raise KeyError("passage")


def test_error_is_recorded_and_propagates(finished: Finished) -> None:
    with pytest.raises(KeyError), span("fails"):
        raise KeyError("passage")

    failed = finished()[0]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "KeyError: 'passage'"
    assert failed.attributes[semconv.ERROR_TYPE] == "KeyError"
    assert dict(failed.events[0].attributes) == {"exception.type": "KeyError", "exception.message": "'passage'"}


async def test_cancelled_span_is_marked_and_is_not_the_parent_of_the_next(finished: Finished) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with span("cancelled"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with span("next"):
        pass

    cancelled, following = finished()
    assert cancelled.status.description == "CancelledError: cancelled"
    assert following.parent is None


async def test_concurrent_tasks_have_separate_spans(finished: Finished) -> None:
    barrier = asyncio.Barrier(2)

    async def work(name: str) -> None:
        with span(name):
            await barrier.wait()
            with span(f"below {name}"):
                await barrier.wait()

    await asyncio.gather(work("a"), work("b"))

    by_name = {s.name: s for s in finished()}
    for name in "ab":
        assert by_name[f"below {name}"].parent.span_id == by_name[name].context.span_id


def test_import_of_telemetry_does_not_import_the_sdk() -> None:
    code = "import sys, poise.telemetry as t; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SHARED)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
