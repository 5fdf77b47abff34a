from io import StringIO

import pytest
from rich.console import Console

from poise.cli.trace_view import render_trace
from poise.contracts.ask import Answer
from poise.contracts.fault import Fault
from poise.contracts.record import RunRecord
from poise.contracts.span import Role, SpanRecord
from poise.telemetry import semconv

QUESTION = "Which statement leaves the nearest enclosing loop?"

RETRIEVING = "process poise.retrieval.requests.interactive"


def make(  # noqa: PLR0917 - a table row
    id_: str,
    parent: str | None,
    name: str,
    tier: str,
    at: float,
    ms: float,
    role: Role = "internal",
    said: dict[str, bool | float | str] | None = None,
    **more: str,
) -> SpanRecord:
    fields = {"service": f"poise-{tier}", "instance": f"{tier}-1", "host": "a", **more}
    return SpanRecord.model_validate(
        {
            "trace_id": "t",
            "span_id": id_,
            "parent_id": parent,
            "name": name,
            "role": role,
            "start": 1.8e9 + at / 1000,
            "ms": ms,
            "attributes": said or {},
            **fields,
        }
    )


def run() -> list[SpanRecord]:
    tokens: dict[str, bool | float | str] = {semconv.GEN_AI_INPUT_TOKENS: 412, semconv.GEN_AI_OUTPUT_TOKENS: 61}
    return [
        make("01", None, "ask", "gateway", 0, 1843, "server"),
        make("02", "01", "call ask", "gateway", 4, 1835, "client"),
        make(
            "03", "02", "process poise.runs.interactive", "orchestration", 8, 1826, "consumer", {semconv.QUEUE_MS: 2.5}
        ),
        make("04", "03", "answer", "orchestration", 9, 1822, said={semconv.RUNG: "primary"}),
        make("05", "04", "call retrieve", "orchestration", 10, 101, "client"),
        make(
            "06",
            "05",
            "process poise.retrieval.requests.interactive",
            "retrieval",
            14,
            93,
            "consumer",
            {semconv.PASSAGES: 6},
        ),
        make("07", "06", "embed query", "retrieval", 15, 61),
        make("08", "06", "search index", "retrieval", 77, 28),
        make("09", "04", "call generate", "orchestration", 113, 1702, "client"),
        make(
            "0a",
            "09",
            "process poise.inference.requests.interactive",
            "inference",
            158,
            1652,
            "consumer",
            {semconv.QUEUE_MS: 42.0},
        ),
        make("0b", "0a", "chat smollm2-135m", "inference", 160, 1640, "client", tokens),
        make("0c", "04", "check groundedness", "orchestration", 1816, 9),
        make("0d", "04", "send poise.records", "orchestration", 1827, 3, "producer"),
        make("0e", "0d", "process poise.records", "evaluation", 1836, 21, "consumer"),
        make("0f", "0e", "score run", "evaluation", 1848, 12),
    ]


def recorded(answer: Answer | None = None, fault: Fault | None = None) -> RunRecord:
    return RunRecord(
        run_id="r", workflow="answer", tenant="t", question=QUESTION, started=0, finished=1, answer=answer, fault=fault
    )


def shown(spans: list[SpanRecord], width: int = 100, record: RunRecord | None = None, **more: bool) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(render_trace(spans, width, record=record, **more))
    assert isinstance(console.file, StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert all(len(line) <= width for line in lines)
    return "\n".join(lines)


SCREEN = """\
1.84 s  primary answer by small  The model took 1.65 s (90%).
“Which statement leaves the nearest enclosing loop?”

██████████████████████████████████████████████████████████████████████████████████████████▓▓▓▓▓▒░░░·
█ inference 90%  ▓ retrieval 5%  ▒ orchestration 1%  ░ queues 2%  · in transit 1%

                                              0────────────────────────────────────── 1.84 s
gateway-1       ask                           ███████████████████████████████████████████████ 1.84 s
gateway-1       └ call ask                    ██████████████████████████████████████████████▉ 1.83 s
orchestration-1   └ process runs              ██████████████████████████████████████████████▊ 1.83 s
orchestration-1     └ answer                  ███████████████████ primary ██████████████████▊ 1.82 s
orchestration-1       ├ call retrieve         ██▉                                             101 ms
retrieval-1           │ └ process retrieval   ██▊ 6 passages                                   93 ms
retrieval-1           │   ├ embed query       ██                                               61 ms
retrieval-1           │   └ search index        ▋                                              28 ms
orchestration-1       ├ call generate           ▐███████████████████████████████████████████▎  1.7 s
inference-1           │ └ process inference      ░██████████████ queued 42 ms ██████████████▏ 1.65 s
inference-1           │   └ chat smollm2-135m     █████████ 412 → 61 tokens, 37/s █████████▉  1.64 s
orchestration-1       ├ check groundedness                                                  ▎ 9.0 ms
evaluation-1          └ process records                                                     ▏  21 ms
evaluation-1            └ score run                                      5.0 ms after the end  12 ms
Hidden: 1 short send (--all shows them)."""


def test_run_is_shown_on_one_screen() -> None:
    record = recorded(Answer(run_id="r", text="break", rung="primary", variant="small"))

    assert shown(list(reversed(run())), record=record) == SCREEN


@pytest.mark.parametrize("width", [60, 80, 200])
def test_view_fits_the_width_of_the_screen(width: int) -> None:
    assert "chat" in shown(run(), width)


def test_all_option_shows_short_sends() -> None:
    assert "send records" in shown(run(), everything=True)
    assert "Left out" not in shown(run(), everything=True)


def test_slow_retrieval_is_reported() -> None:
    spans = [span.model_copy(update={"ms": 1_500.0}) if span.span_id == "06" else span for span in run()[:6]]

    assert "Retrieval took 1.5 s (81%)." in shown(spans)


def test_wait_for_a_worker_is_reported() -> None:
    queue: dict[str, bool | float | str] = {semconv.QUEUE_MS: 900.0}
    spans = [
        make("1", None, "ask", "gateway", 0, 1000, "server"),
        make("2", "1", "call ask", "gateway", 0, 1000, "client"),
        make("3", "2", "process poise.runs.batch", "orchestration", 950, 50, "consumer", queue),
    ]

    screen = shown(spans)
    assert "Waiting for a free orchestration worker took 900 ms (90%)." in screen
    assert "process runs.batch" in screen
    assert "░░ queued 900 ms ░░" in screen


def test_failed_span_shows_its_error() -> None:
    spans = run()[:11]
    spans[-1] = spans[-1].model_copy(update={"status": "error", "error": "TimeoutError: no answer\n\x1b[31min 30 s"})
    fault = Fault(type="urn:poise:x", title="Unavailable", status=503, detail="", retryable=True)

    screen = shown(spans, 140, recorded(fault=fault))
    assert "fault: unavailable" in screen
    assert "✗ TimeoutError: no answer [31min 30 s" in screen
    assert "\x1b" not in screen


def test_lower_rung_shows_its_reason() -> None:
    answer = Answer(run_id="r", text="break", rung="extractive", reason="the model failed")

    assert "extractive answer (the model failed)" in shown(run(), record=recorded(answer))


def test_unfinished_run_is_marked() -> None:
    screen = shown([span for span in run() if span.span_id not in {"01", "02", "03", "04", "0a"}])

    assert "not finished, or spans are missing" in screen
    assert screen.count("still running, or its worker died") >= 2
    assert "Spans marked ? are missing" in screen


def test_differing_clocks_are_reported() -> None:
    spans = [
        span.model_copy(update={"host": "b", "start": span.start - 0.08}) if span.span_id in {"0a", "0b"} else span
        for span in run()
    ]

    screen = shown(spans)
    assert "Each span's times are from its host's clock: a, b." in screen
    assert "The clock of b is behind that of a by at least 35 ms." in screen


def test_single_span_is_shown_as_a_run() -> None:
    assert shown([make("1", None, "ask", "gateway", 0, 0, "server")]).startswith("0.0 ms  ok")
    assert "The gateway took 5.0 ms (100%)." in shown([make("1", None, "ask", "gateway", 0, 5, "server")])
