"""What evaluation thinks of a finished run: a pure function of its record."""

from poise.contracts import Draw, RunRecord, Score
from poise.contracts.record import longest
from poise.scoring import Evidence, empty, groundedness, looping, refused, relevance, truncated


def score(record: RunRecord) -> Score:
    """Score a run: what was sent, what the drawn variant wrote, and how long each step took."""
    draw = record.draw or Draw(variant="none", probability=1.0, policy=record.workflow, policy_version=0)
    values = {"error": float(record.fault is not None)}
    values |= {f"latency_ms.{step}": ms for step, ms in longest(record.steps).items()}
    values["latency_ms.total"] = round((record.finished - record.started) * 1_000, 1)
    evidence = Evidence(record.passages)
    if record.answer is not None and record.answer.rung != "canned" and (record.passages or not _earlier(record)):
        values["groundedness"] = groundedness(record.answer.text, evidence, question=record.question).score
    if record.draw is not None and record.draw.skipped is None and not record.cached:
        values |= _of_the_draw(record.draw, record, evidence)
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
        values={name: round(value, 4) for name, value in values.items()},
    )


def _earlier(record: RunRecord) -> bool:
    """Whether an answer of an earlier run was sent: what it rests on was retrieved then."""
    return record.cached or (record.answer is not None and record.answer.cached)


def _of_the_draw(draw: Draw, record: RunRecord, evidence: Evidence) -> dict[str, float]:
    """The variant's own words, whether or not they were sent: a variant is not to profit from the ladder below it.

    One that was not asked, because it was left alone or an earlier answer was there, is not among these: that is a
    censored observation, neither a good one nor a bad one.
    """
    fault = any(tried.variant == draw.variant and tried.fault is not None for tried in record.generations)
    if draw.raw is None:
        return {"raw_fault": float(fault)}
    return {
        "raw_fault": 0.0,
        "raw_relevance": relevance(draw.raw, evidence, record.question),
        "raw_groundedness": groundedness(draw.raw, evidence, question=record.question).score,
        "empty": float(empty(draw.raw)),
        "degenerate": float(looping(draw.raw)),
        "truncated": float(truncated(draw.raw, draw.finish_reason)),
        "refused": float(refused(draw.raw)),
    }
