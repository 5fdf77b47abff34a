"""The scores of a finished run: a pure function of its record."""

import hashlib
from functools import lru_cache
from typing import Final

from poise.contracts import Draw, Passage, RunRecord, Score
from poise.contracts.record import longest_by_step
from poise.redis.passage_store import normalize_query
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

_CACHE_SIZE: Final = 256
"""Entries of each cache: passages and answers of runs; about 100 kB each."""
PASSAGE_CHARS_PER_ANSWER_CHAR: Final = 20
"""Characters of passages whose processing costs as much as that of one character of an answer."""
_DIGEST_LENGTH: Final = 16
"""Hexadecimal digits of a question's digest: among a million questions, two have the same with probability 3e-8."""


def score_run(record: RunRecord, embed: Embed | None = None) -> Score:
    """Score a run: the answer, the output of the drawn variant, and the time of each step.

    Args:
        record: The run's record.
        embed: Returns the vector of a text, for a quality that compares embeddings; None = lexical scoring.
    """
    draw = record.draw or Draw(variant="none", probability=1.0, policy=record.workflow, policy_version=0)
    values = {"error": float(record.fault is not None)}
    values |= {f"latency_ms.{step}": ms for step, ms in longest_by_step(record.steps).items()}
    values["latency_ms.total"] = round((record.finished - record.started) * 1_000, 1)
    evidence = _evidence(
        tuple((passage.id, passage.source, passage.heading, passage.text) for passage in record.passages)
    )
    complete = record.answer is not None and record.answer.rung != "canned" and not _is_shortened(record, "answer")
    if record.answer is not None and complete and (record.passages or not _is_cached(record)):
        values["groundedness"] = _grounded(record.answer.text.strip(), evidence, record.question).score
    if record.draw is not None and record.draw.skipped is None and not record.cached:
        values |= _draw_values(record.draw, record, evidence, embed)
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
    """Return the size of the work in characters; those of the answer and the output count several times."""
    sent = len(record.answer.text) if record.answer is not None else 0
    raw = len(record.draw.raw or "") if record.draw is not None else 0
    return (
        sum(len(passage.text) for passage in record.passages)
        + len(record.question)
        + PASSAGE_CHARS_PER_ANSWER_CHAR * (sent + raw)
    )


@lru_cache(_CACHE_SIZE)
def _evidence(passages: tuple[tuple[str, str, str | None, str], ...]) -> Evidence:
    """Return the evidence of passages, cached: many runs have the same ones; age and rank do not matter here."""
    return Evidence(
        [
            Passage(id=key, source=source, heading=heading, text=text, score=0.0, age=0.0)
            for key, source, heading, text in passages
        ]
    )


@lru_cache(_CACHE_SIZE)
def _grounded(text: str, evidence: Evidence, question: str) -> Groundedness:
    """Return the groundedness, cached: the answer is usually the output of the variant."""
    return groundedness(text, evidence, question=question)


@lru_cache(_CACHE_SIZE)
def _relevant(text: str, evidence: Evidence, question: str) -> float:
    return relevance(text, evidence, question)


def _is_shortened(record: RunRecord, field: str) -> bool:
    """Return whether a text or its passages were shortened, so that it cannot be scored."""
    return not {field, "passages"}.isdisjoint(record.shortened or ())


def _is_cached(record: RunRecord) -> bool:
    """Return whether the answer is of an earlier run, whose passages are not in this record."""
    return record.cached or (record.answer is not None and record.answer.cached)


def digest(question: str) -> str:
    """Return the digest of a question, independent of case and white space."""
    return hashlib.sha256(normalize_query(question).encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]


def _draw_values(draw: Draw, record: RunRecord, evidence: Evidence, embed: Embed | None) -> dict[str, float]:
    """Return the scores of the drawn variant's output, whether or not it was sent.

    A variant must not profit from the fallbacks below it. A variant that was not called, because it was skipped or the
    answer was cached, has no scores: that is a censored observation, neither good nor bad.
    """
    costs = {"raw_ms": draw.ms, "raw_cost": draw.cost}
    values = {name: value for name, value in costs.items() if value is not None}
    if draw.raw is None:
        fault = any(
            generation.variant == draw.variant and generation.fault is not None for generation in record.generations
        )
        return values | {"raw_fault": float(fault)} | ({"quality": 0.0} if fault else {})
    if _is_shortened(record, "draw"):
        return values | {"raw_fault": 0.0}
    return values | {"raw_fault": 0.0} | _text_values(draw.raw, draw.finish_reason, record.question, evidence, embed)


def _text_values(
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
    # Without evidence no answer can be judged: even a refusal may be right.
    if not evidence.shares_words_with(question):
        return values
    if values["refused"]:
        return values | {"quality": 0.0}
    if embed is None:
        return values | {"quality": quality(text, grounded, relevant)}
    compared = compare_by_meaning(text, evidence, question, embed)
    nearness = min(1.0, max(0.0, compared.near))  # a cosine may be below 0, and by rounding above 1
    return values | {"raw_nearness": nearness, "quality": quality(text, grounded, relevant, compared)}
