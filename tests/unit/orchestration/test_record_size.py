"""A shortened record fits its topic, is still valid, and names the fields that were cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Answer, Citation, Draw, Generation, Passage, RunRecord, StepRecord
from poise_services.orchestration.record_size import MIN_TEXT_BYTES, shorten


def record(**fields: Any) -> RunRecord:
    draw = Draw(variant="small", probability=0.5, policy="answer", policy_version=3, raw=fields.pop("raw", "Ada."))
    answer = Answer(run_id="r", text=fields.pop("text", "Ada."), rung="primary", **fields.pop("answer", {}))
    known = {
        "run_id": "r",
        "workflow": "answer",
        "tenant": "default",
        "question": "Who?",
        "answer": answer,
        "draw": draw,
    }
    return RunRecord(started=1.5, finished=2.5, **(known | fields))


def passages(*texts: str) -> tuple[Passage, ...]:
    return tuple(Passage(id=f"d#{n}", source="s", text=text, score=0.5, age=1.0) for n, text in enumerate(texts))


def test_a_record_that_fits_is_unchanged() -> None:
    whole = record(passages=passages("a" * 1_000))
    assert shorten(whole, len(whole.encode())) is whole


@pytest.mark.parametrize(
    ("fields", "cut"),
    [
        ({"text": "x" * 3_000_000}, ("answer",)),
        ({"text": "\x00" * 300_000}, ("answer",)),
        ({"raw": "x" * 3_000_000}, ("draw",)),
        ({"generations": [Generation(variant="v", raw="é" * 500_000)] * 4}, ("generations",)),
        ({"passages": passages(*["語" * 100_000] * 100)}, ("passages",)),
        ({"steps": [StepRecord(step="s" * 100, ms=1.0)] * 50_000}, ("steps",)),
        ({"answer": {"degraded": ["d" * 100] * 50_000}}, ("answer",)),
        ({"answer": {"timings": {f"step-{n}": float(n) for n in range(50_000)} | {"total": 1e9}}}, ("answer",)),
        ({"answer": {"citations": [Citation(source="s", passage="d#0", quote="q" * 400_000)] * 5}}, ("answer",)),
    ],
)
def test_the_large_field_is_cut_and_named(fields: dict[str, Any], cut: tuple[str, ...]) -> None:
    kept = shorten(record(**fields), 1_000_000)
    assert 0 < len(kept.encode()) <= 1_000_000
    assert kept.shortened == cut
    assert RunRecord.parse(kept.encode()) == kept


def test_the_longest_texts_are_cut_first() -> None:
    whole = record(text="x" * 900_000, raw="x" * 900_000, passages=passages(*["p" * 2_000] * 20))
    kept = shorten(whole, 1_000_000)
    assert kept.shortened == ("answer", "draw")
    assert kept.passages == whole.passages
    assert kept.answer is not None
    assert kept.draw is not None
    assert 400_000 < len(kept.answer.text) == len(kept.draw.raw or "")


def test_identifiers_are_not_cut() -> None:
    long = "i" * 2_000
    whole = record(run_id=long, tenant=long, text="x" * 50_000)
    kept = shorten(whole, 10_000)
    assert (kept.run_id, kept.tenant) == (long, long)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=20),
    steps=st.integers(0, 300),
    room=st.integers(5_000, 20_000),
)
def test_a_record_always_fits(texts: list[str], steps: int, room: int) -> None:
    whole = record(
        text="".join(texts),
        raw="".join(reversed(texts)),
        passages=passages(*texts),
        steps=[StepRecord(step=f"step {n}", ms=n) for n in range(steps)],
    )
    kept = shorten(whole, room)
    assert len(kept.encode()) <= room
    assert (kept.shortened is None) == (kept == whole)
    assert room < 3 * MIN_TEXT_BYTES or kept.question == whole.question
