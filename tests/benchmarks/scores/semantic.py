# ruff: noqa: T201 - a benchmark prints its results
"""Compares lexical with semantic quality: `python -m tests.benchmarks.scores --embedding`.

All coefficients are fitted on other questions. In the first column, denials and unknown names count only in
groundedness: it shows the effect of their own coefficients in the lexical score.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from poise.embedding import EmbeddingModel
from poise.scoring import Embed
from poise.scoring.quality import LEXICAL, SEMANTIC, Coefficients
from poise.scoring.tokenization import sentences
from poise_services.evaluation.run_scores import score_run
from tests.benchmarks.scores.edits import GOOD, edited_own_words
from tests.benchmarks.scores.fit import EDITS_COUNT, held_out, qualities, training_examples
from tests.benchmarks.scores.labeled import LabeledAnswer, passages, record, scored
from tests.benchmarks.scores.separation import Judgment, auc, calibration_error, reliability, separation

MEASURES: Final[Mapping[str, Coefficients]] = {
    "by groundedness": LEXICAL._replace(unknown=0.0, turned=0.0),
    "by words": LEXICAL,
    "by meaning": SEMANTIC,
}
"""Only which coefficients are 0 matters: the others are fitted again."""
EDITS: Final = ("another's answer", "changed number", "negated", "invented name")

Set = tuple[Sequence[LabeledAnswer], Sequence[dict[str, float]]]
Rows = dict[str, dict[str, str]]


def show(sets: Mapping[str, Set], embed: Embed) -> None:
    """Print one column for each measure."""
    own = edited_own_words()
    all_sets = {**sets, "own words, edited": (own, scored(own))}
    rows: Rows = defaultdict(dict)
    for name, like in MEASURES.items():
        of = held_out(
            [*training_examples(*sets["real"], 1.0, embed), *training_examples(*sets["edits"], EDITS_COUNT, embed)],
            like,
        )
        found = {kind: (cases, qualities(cases, values, of, embed)) for kind, (cases, values) in all_sets.items()}
        _real(rows, name, *found["real"])
        _edits(rows, name, _by_kind(*found["edits"]), _by_kind(*found["own words, edited"]))
    print(f"\n{'':64}" + "".join(f"{name:>20}" for name in MEASURES))
    for row, columns in rows.items():
        print(f"{row:64}" + "".join(f"{columns[name]:>20}" for name in MEASURES))
    answers = sets["real"][0]
    first = list({case.ask: case for case in reversed(answers)}.values())
    _cost(first, [case for case in answers if case not in first])


def _real(rows: Rows, name: str, cases: Sequence[LabeledAnswer], found: Sequence[float]) -> None:
    said = [Judgment(case.ask, at, case.right) for case, at in zip(cases, found, strict=True)]
    result, bins = separation(said), reliability(said)
    rows["the model's answers: AUC"][name] = f"{result.auc:.3f} ({result.low:.2f}–{result.high:.2f})"
    rows["  said less right, on average"][name] = f"{calibration_error(bins):.3f}"
    for number, one in enumerate(bins):
        rows[f"  said → right, eighth {number + 1}"][name] = f"{one.mean:.2f} → {one.right:.2f}"


def _edits(rows: Rows, name: str, of: Mapping[str, list[float]], of_own: Mapping[str, list[float]]) -> None:
    for title, good, bad in (
        ("AUC of a quotation", of["good"], of),
        ("AUC of own words", of["own words"], of),
        ("AUC of own words", of["own words"], of_own),
    ):
        for kind in EDITS:
            which = f"own words, {kind}" if bad is of_own else kind
            rows[f"{title} over: {which}"][name] = f"{auc(good, bad[kind]):.2f}"
    for kind in ("good", "own words", "negated", "invented name"):
        rows[f"mean: {kind}"][name] = f"{fmean(of[kind]):.2f}"


def _by_kind(cases: Sequence[LabeledAnswer], found: Sequence[float]) -> Mapping[str, list[float]]:
    of = defaultdict[str, list[float]](list)
    for case, quality in zip(cases, found, strict=True):
        of["good" if case.kind in GOOD else case.kind].append(quality)
    return of


def _cost(first: Sequence[LabeledAnswer], then: Sequence[LabeledAnswer]) -> None:
    """Print the ms of CPU to score a run with semantic comparison.

    Args:
        first: Answers on new passages, one to a question.
        then: Other answers on the same passages.
    """
    embed = EmbeddingModel().embed
    lines = fmean(len({line for one in found for line in sentences(one.text)}) for found in passages().values())
    per_answer = fmean(len(sentences(case.text)) for case in first)
    print(f"\ncost of a run of {lines:.0f} lines and {per_answer:.1f} sentences, ms of CPU")
    for name, cases in (("passages never seen", first), ("passages seen before", then)):
        began = time.thread_time()
        for case in cases:
            score_run(record(case), embed)
        print(f"  {name:28}{(time.thread_time() - began) * 1_000 / len(cases):6.0f}")
