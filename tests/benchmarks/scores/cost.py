# ruff: noqa: T201 - a benchmark prints its results
"""The CPU time of each score, and how many runs a second a worker could score."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from poise.contracts import Answer, RunRecord
from poise.scoring import (
    Evidence,
    Groundedness,
    evidence,
    groundedness,
    is_empty,
    is_looping,
    is_refusal,
    is_truncated,
    quality,
    relevance,
)
from poise_services.evaluation import run_scores
from tests.benchmarks.scores.labeled import LabeledAnswer, passages, record

TIMES: Final = 3
"""Number of measurements; the minimum counts, as other load only adds time."""


def show(first: Sequence[LabeledAnswer], then: Sequence[LabeledAnswer]) -> None:
    """Print the cost in µs of CPU.

    Args:
        first: Answers on new passages.
        then: Other answers on the same passages.
    """
    print("\ncost, µs of CPU for each run of 6 passages")
    evidences = {case.ask: Evidence(passages()[case.ask]) for case in first}
    supported = Groundedness(0.9, (), ())
    of_each: dict[str, Callable[[LabeledAnswer], object]] = {
        "evidence, passages seen before": lambda case: Evidence(passages()[case.ask]),
        "groundedness": lambda case: groundedness(case.text, evidences[case.ask], question=case.ask),
        "relevance": lambda case: relevance(case.text, evidences[case.ask], case.ask),
        "quality, of both": lambda case: quality(case.text, supported, 0.5),
        "is_empty, degenerate, is_truncated, is_refusal": lambda case: (
            is_empty(case.text),
            is_looping(case.text),
            is_truncated(case.text, case.finish),
            is_refusal(case.text),
        ),
    }
    for name, work in of_each.items():
        print(f"  {name:40}{min(_each(work, first) for _ in range(TIMES)):8.0f}")
    runs = {name: [_run(case) for case in cases] for name, cases in (("first", first), ("then", then))}
    for remembered in (
        run_scores._evidence,
        run_scores._grounded,
        run_scores._relevant,
        evidence._parse,
        evidence._heading_stems,
        evidence._flat_text_and_words,
    ):
        remembered.cache_clear()
    for name, some in (
        ("a whole run, passages never seen", runs["first"]),
        ("a whole run, passages seen before", runs["then"]),
        ("a whole run, seen before", runs["then"][:200] * 2),
    ):
        took = _each(lambda raw: run_scores.score_run(RunRecord.model_validate_json(raw)), some)
        print(f"  {name:40}{took:8.0f}  {1e6 / took:8,.0f} runs/s of one core, reading the record included")


def _run(case: LabeledAnswer) -> bytes:
    answer = Answer(run_id="run", text=case.text.strip(), rung="primary", variant="small")
    return record(case).model_copy(update={"answer": answer}).model_dump_json().encode()


def _each(work: Callable[[LabeledAnswer], object] | Callable[[bytes], object], some: Iterable[object]) -> float:
    began, count = time.thread_time(), 0
    for one in some:
        work(one)  # type: ignore[arg-type]  # each is given what it takes
        count += 1
    return (time.thread_time() - began) * 1e6 / count
