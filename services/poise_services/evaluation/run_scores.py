"""What evaluation thinks of a finished run: a pure function of its record."""

import hashlib
from functools import lru_cache
from typing import Final

from poise.contracts import Draw, Passage, RunRecord, Score
from poise.contracts.record import longest_by_step
from poise.redis.passage_store import normalise_query
from poise.scoring import (
    Embed,
    Evidence,
    Groundedness,
    compare_by_meaning,
    groundedness,
    is_empty,
    is_looping,
    is_refusal,
    is_truncated,
    quality,
    relevance,
)

_REMEMBERED: Final = 256
"""Runs' passages, and answers, of which what was worked out is kept; some 100 kB each."""
_PER_CHARACTER: Final = 20
"""Characters of passages that are read as quickly as one of an answer is compared with them."""
_DIGEST: Final = 16
"""Hexadecimal digits of a question's digest: of a million questions, two share one in 1 of 30 million cases."""


def score_run(record: RunRecord, embed: Embed | None = None) -> Score:
    """Score a run: what was sent, what the drawn variant wrote, and how long each step took.

    Args:
        record: The run's record.
        embed: What makes vectors, for a quality that compares by meaning; None = it is told by words alone.
    """
    draw = record.draw or Draw(variant="none", probability=1.0, policy=record.workflow, policy_version=0)
    values = {"error": float(record.fault is not None)}
    values |= {f"latency_ms.{step}": ms for step, ms in longest_by_step(record.steps).items()}
    values["latency_ms.total"] = round((record.finished - record.started) * 1_000, 1)
    evidence = _evidence(tuple((one.id, one.source, one.heading, one.text) for one in record.passages))
    judged = record.answer is not None and record.answer.rung != "canned" and not _cut(record, "answer")
    if record.answer is not None and judged and (record.passages or not _earlier(record)):
        values["groundedness"] = _grounded(record.answer.text.strip(), evidence, record.question).score
    if record.draw is not None and record.draw.skipped is None and not record.cached:
        values |= _of_the_draw(record.draw, record, evidence, embed)
    if record.draw is not None and record.draw.skipped is not None and not record.cached:
        values["raw_skipped"] = 1.0
    return Score(
        run_id=record.run_id,
        workflow=record.workflow,
        tenant=record.tenant,
        policy=draw.policy,
        policy_version=draw.policy_version,
        variant=draw.variant,
        probability=draw.probability,
        rung=record.answer.rung if record.answer is not None else "none",
        at=record.finished,
        question=digest(record.question),
        values={name: round(value, 4) for name, value in values.items()},
    )


def scoring_size(record: RunRecord) -> int:
    """How many characters are compared: those of what was sent and written count several times."""
    sent = len(record.answer.text) if record.answer is not None else 0
    raw = len(record.draw.raw or "") if record.draw is not None else 0
    return sum(len(one.text) for one in record.passages) + len(record.question) + _PER_CHARACTER * (sent + raw)


@lru_cache(_REMEMBERED)
def _evidence(said: tuple[tuple[str, str, str | None, str], ...]) -> Evidence:
    """The same passages are found again and again; their age and their rank's score make no difference here."""
    return Evidence(
        [
            Passage(id=key, source=source, heading=heading, text=text, score=0.0, age=0.0)
            for key, source, heading, text in said
        ]
    )


@lru_cache(_REMEMBERED)
def _grounded(text: str, evidence: Evidence, question: str) -> Groundedness:
    """What was sent is, most often, what the variant wrote."""
    return groundedness(text, evidence, question=question)


@lru_cache(_REMEMBERED)
def _relevant(text: str, evidence: Evidence, question: str) -> float:
    return relevance(text, evidence, question)


def _cut(record: RunRecord, field: str) -> bool:
    """Whether a text, or what it is judged by, is not all there: it is not judged by the rest."""
    return not {field, "passages"}.isdisjoint(record.shortened or ())


def _earlier(record: RunRecord) -> bool:
    """Whether an answer of an earlier run was sent: what it rests on was retrieved then."""
    return record.cached or (record.answer is not None and record.answer.cached)


def digest(question: str) -> str:
    """What a question is known by among scores, whatever its case and white space."""
    return hashlib.sha256(normalise_query(question).encode(errors="surrogatepass")).hexdigest()[:_DIGEST]


def _of_the_draw(draw: Draw, record: RunRecord, evidence: Evidence, embed: Embed | None) -> dict[str, float]:
    """The variant's own words, whether or not they were sent: a variant is not to profit from the ladder below it.

    One that was not asked, because it was left alone or an earlier answer was there, is not among these: that is a
    censored observation, neither a good one nor a bad one.
    """
    spent = {"raw_ms": draw.ms, "raw_cost": draw.cost}
    values = {name: value for name, value in spent.items() if value is not None}
    if draw.raw is None:
        fault = any(tried.variant == draw.variant and tried.fault is not None for tried in record.generations)
        return values | {"raw_fault": float(fault)} | ({"quality": 0.0} if fault else {})
    if _cut(record, "draw"):
        return values | {"raw_fault": 0.0}
    return values | {"raw_fault": 0.0} | _of_words(draw.raw, draw.finish_reason, record.question, evidence, embed)


def _of_words(
    raw: str, finish_reason: str | None, question: str, evidence: Evidence, embed: Embed | None
) -> dict[str, float]:
    text = raw.strip()
    grounded, relevant = _grounded(text, evidence, question), _relevant(text, evidence, question)
    values = {
        "raw_relevance": relevant,
        "raw_groundedness": grounded.score,
        "empty": float(is_empty(raw)),
        "degenerate": float(is_looping(raw)),
        "truncated": float(is_truncated(raw, finish_reason)),
        "refused": float(is_refusal(raw)),
    }
    if any(values[name] for name in ("empty", "degenerate", "truncated")):
        return values | {"quality": 0.0}
    if not evidence.shares_words_with(question):  # nothing to tell a right answer by, and to decline is right as well
        return values
    if values["refused"]:
        return values | {"quality": 0.0}
    if embed is None:
        return values | {"quality": quality(text, grounded, relevant)}
    compared = compare_by_meaning(text, evidence, question, embed)
    nearness = min(1.0, max(0.0, compared.near))  # a cosine may be below 0, and by rounding above 1
    return values | {"raw_nearness": nearness, "quality": quality(text, grounded, relevant, compared)}
