import time
from collections.abc import Iterator

import pytest
from opentelemetry.util.types import AttributeValue

from poise.contracts.span import SpanRecord
from poise.contracts.topics import SPANS
from poise.telemetry import SpanKind, extract, metrics, sdk, semconv, span, spans, tracing


@pytest.fixture
def queue() -> Iterator[spans.SpanQueue]:
    queue = spans.SpanQueue(capacity=4)
    provider = sdk.tracer_provider(sdk.resource("retrieval", "retrieval-2"), [queue])
    tracer = provider.get_tracer(tracing.SCOPE)
    tracing.activate(tracer)
    yield queue
    tracing.deactivate(tracer)
    provider.shutdown()


def drained(queue: spans.SpanQueue) -> list[tuple[str, SpanRecord]]:
    return [(run, SpanRecord.parse(body, strict=True)) for run, body in queue.drain()]


def test_finished_span_is_queued_under_its_run_as_a_span_record(queue: spans.SpanQueue) -> None:
    parent = extract({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    said: dict[str, AttributeValue] = {
        semconv.RUN: "run-1",
        semconv.QUEUE_MS: 1.5,
        semconv.KAFKA_OFFSET: 7,
        semconv.KAFKA_TOMBSTONE: True,
        semconv.GEN_AI_FINISH_REASONS: ["stop", "length"],
        semconv.REASON: "x" * 1_000,
    }
    with span("process poise.retrieval.requests.interactive", kind=SpanKind.CONSUMER, attributes=said, parent=parent):
        pass

    ((run, record),) = drained(queue)
    assert run == "run-1"
    assert record.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert record.parent_id == "b7ad6b7169203331"
    assert (record.name, record.role) == ("process poise.retrieval.requests.interactive", "consumer")
    assert (record.service, record.instance, record.status) == ("poise-retrieval", "retrieval-2", "ok")
    assert record.host
    assert record.start > 0
    assert record.error is None
    assert record.attributes == {
        semconv.QUEUE_MS: 1.5,
        semconv.KAFKA_OFFSET: 7,
        semconv.KAFKA_TOMBSTONE: True,
        semconv.GEN_AI_FINISH_REASONS: "stop,length",
        semconv.REASON: "x" * spans.MAX_TEXT_CHARS,
    }
    assert queue.drain() == []


def test_failed_span_has_its_error(queue: spans.SpanQueue) -> None:
    with pytest.raises(ValueError, match="empty"), span("x", attributes={semconv.RUN: "r"}):
        raise ValueError("empty")

    ((_, record),) = drained(queue)
    assert (record.status, record.error) == ("error", "ValueError: empty")
    assert record.attributes == {semconv.ERROR_TYPE: "ValueError"}


def test_unencodable_characters_are_replaced(queue: spans.SpanQueue) -> None:
    """Check that such a span does not prevent later ones from being written."""
    with (
        pytest.raises(ValueError, match="half"),
        span("x", attributes={semconv.RUN: "\ud800r", semconv.REASON: "\udfff"}),
    ):
        raise ValueError("half \ud800")
    ((run, record),) = drained(queue)
    assert run == "\ud800r"
    assert (record.error, record.attributes[semconv.REASON]) == ("ValueError: half ?", "?")


def test_any_span_fits_the_size_limit_of_its_topic(queue: spans.SpanQueue) -> None:
    many: dict[str, AttributeValue] = {f"{number}{'ü' * 1_000_000}": "ü" * 1_000_000 for number in range(300)}
    with span("ü" * 1_000_000, attributes={**many, semconv.RUN: "r"}):
        pass
    ((_, body),) = queue.drain()
    assert len(body) < SPANS.max_bytes // 4
    assert SpanRecord.parse(body).name == "ü" * spans.MAX_TEXT_CHARS


def test_numbers_without_a_json_form_are_strings(queue: spans.SpanQueue) -> None:
    """Check that such a span does not prevent later ones from being written."""
    said: dict[str, AttributeValue] = {
        "huge": 10**6_000,
        "most": 2**63 - 1,
        "endless": float("inf"),
        "none": float("nan"),
        semconv.RUN: "r",
    }
    with span("x", attributes=said):
        pass
    ((_, record),) = drained(queue)
    huge = hex(10**6_000)[: spans.MAX_TEXT_CHARS]
    assert record.attributes == {"huge": huge, "most": 2**63 - 1, "endless": "inf", "none": "nan"}


def test_child_spans_inherit_the_run(queue: spans.SpanQueue) -> None:
    with span("top", attributes={semconv.RUN: "r"}), span("middle"), span("bottom"):
        pass
    with span("other", attributes={semconv.RUN: "s"}), span("own", attributes={semconv.RUN: "t"}):
        pass

    assert [(run, record.name) for run, record in drained(queue)] == [
        ("r", "middle"),  # the queue holds four: `bottom` was dropped
        ("r", "top"),
        ("t", "own"),
        ("s", "other"),
    ]


def test_run_id_may_be_set_after_the_start_of_the_span(queue: spans.SpanQueue) -> None:
    with span("ask") as current:
        current.set_attribute(semconv.RUN, "r")

    assert [run for run, _ in drained(queue)] == ["r"]


def test_spans_without_a_run_are_skipped(queue: spans.SpanQueue) -> None:
    with span("health check"):
        pass

    assert queue.drain() == []


def test_oldest_spans_of_a_full_queue_are_dropped_and_counted(queue: spans.SpanQueue) -> None:
    recorder = metrics.Recorder([semconv.SPANS_DROPPED], {})
    metrics.activate(recorder)
    for number in range(6):
        with span(str(number), attributes={semconv.RUN: "r"}):
            pass
    metrics.deactivate(recorder)

    assert [record.name for _, record in drained(queue)] == ["2", "3", "4", "5"]
    assert recorder.sums(semconv.SPANS_DROPPED) == [(2, {})]


def test_drain_returns_the_oldest_spans_up_to_a_limit(queue: spans.SpanQueue) -> None:
    for number in range(3):
        with span(str(number), attributes={semconv.RUN: "r"}):
            pass

    assert [SpanRecord.parse(body).name for _, body in queue.drain(limit=2)] == ["0", "1"]
    assert [SpanRecord.parse(body).name for _, body in queue.drain(limit=2)] == ["2"]


def test_local_step_span_is_published_if_it_was_slow_or_failed(queue: spans.SpanQueue) -> None:
    with span("process", attributes={semconv.RUN: "run-1"}):
        with span(semconv.step_span("brief")):
            pass
        with span(semconv.step_span("long")):
            until = time.perf_counter_ns() + spans.MIN_STEP_DURATION_NS
            while time.perf_counter_ns() < until:
                pass
        with pytest.raises(ValueError, match="bad"), span(semconv.step_span("failed")):
            raise ValueError("bad")
    assert [record.name for _, record in drained(queue)] == ["step long", "step failed", "process"]
