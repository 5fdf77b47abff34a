"""Semantic comparison with the real model: what is compared by vectors, and how it changes quality."""

import numpy as np
import pytest
from numpy.typing import NDArray

from poise.contracts import Passage
from poise.embedding import EmbeddingModel
from poise.scoring import Evidence, SemanticComparison, compare_by_meaning, groundedness, quality, relevance
from poise.scoring.quality import LEXICAL, SEMANTIC, quality_features

QUESTION = "What does the break statement do?"
SAYS = "It terminates the nearest enclosing loop, and the else clause of the loop is skipped."
TEXT = f"{SAYS} The pass statement is a null operation. Bees like clover."
EVIDENCE = Evidence([Passage(id="p#0", source="p", text=TEXT, score=1.0, age=0.0)])
OWN_WORDS = "Python leaves the innermost loop at once."
NEGATED = "It does not terminate the nearest enclosing loop, and the else clause of the loop is skipped."
INVENTED = "It terminates the nearest enclosing Frobnicator_loop, and the else clause of the loop is skipped."


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel()


def quality_of(answer: str, model: EmbeddingModel | None) -> float:
    compared = None if model is None else compare_by_meaning(answer, EVIDENCE, QUESTION, model.embed)
    return quality(
        answer, groundedness(answer, EVIDENCE, question=QUESTION), relevance(answer, EVIDENCE, QUESTION), compared
    )


@pytest.mark.parametrize("by_meaning", [False, True])
def test_paraphrase_scores_above_a_negation_and_an_invented_name(model: EmbeddingModel, by_meaning: bool) -> None:
    by = model if by_meaning else None
    assert quality_of(OWN_WORDS, by) > quality_of(NEGATED, by) + 0.1
    assert quality_of(OWN_WORDS, by) > quality_of(INVENTED, by) + 0.1


def test_unrelated_answer_scores_below_a_paraphrase_only_by_meaning(model: EmbeddingModel) -> None:
    elsewhere = "Trains run every hour on Sundays."
    assert quality_of(elsewhere, None) > quality_of(OWN_WORDS, None)
    assert quality_of(elsewhere, model) < quality_of(OWN_WORDS, model) - 0.05


FIRST, SECOND = "Lamps burn oil.", "They were not lit."
VECTORS = {
    FIRST: (1.0, 0.0),
    SECOND: (0.0, 1.0),
    "Which? Oil is burnt.": (0.8, 0.6),
    "Oil is burnt.": (0.6, 0.8),
    "Which? Not oil.": (0.28, 0.96),
    "Not oil.": (0.96, 0.28),
}
LAMPS = Evidence([Passage(id="l#0", source="l", text=f"{FIRST} {SECOND}", score=1.0, age=0.0)])


def at(text: str) -> "NDArray[np.float32]":
    return np.array(VECTORS[text], dtype=np.float32)


def test_nearness_includes_the_question_and_is_that_of_the_farthest_sentence() -> None:
    assert compare_by_meaning("Oil is burnt.", LAMPS, "Which?", at).near == pytest.approx(0.8)
    assert compare_by_meaning("Not oil. Oil is burnt.", LAMPS, "Which?", at).near == pytest.approx(0.8)
    assert compare_by_meaning("Not oil.", LAMPS, "Which?", at).near == pytest.approx(0.96)


def test_denial_is_measured_against_the_nearest_line() -> None:
    assert compare_by_meaning("Not oil.", LAMPS, "Which?", at).denied == pytest.approx(0.96)
    assert compare_by_meaning("Not oil. Oil is burnt.", LAMPS, "Which?", at).denied == pytest.approx(
        0.96
    )  # the second: 0.8


def test_sentences_of_equal_polarity_are_no_denial() -> None:
    vectors = {**VECTORS, "Oil is burnt.": (0.8, 0.6), "Not oil.": (0.28, 0.96)}

    def other(text: str) -> "NDArray[np.float32]":
        return np.array(vectors[text], dtype=np.float32)

    assert compare_by_meaning("Oil is burnt. Not oil.", LAMPS, "Which?", other).denied == 0.0


def test_comparison_without_passages_or_sentences_is_zero(model: EmbeddingModel) -> None:
    assert compare_by_meaning(OWN_WORDS, Evidence([]), QUESTION, model.embed) == SemanticComparison(0.0, 0.0)
    assert compare_by_meaning("", EVIDENCE, QUESTION, model.embed) == SemanticComparison(0.0, 0.0)


def test_verbatim_negation_is_distinguished_from_support() -> None:
    denied = groundedness(NEGATED, EVIDENCE, question=QUESTION)
    assert denied.turned > 0.7
    found = quality_features(NEGATED, denied, 0.5)
    assert found.turned == denied.turned
    assert SEMANTIC(found) < SEMANTIC(found._replace(turned=0.0))
    assert groundedness(SAYS, EVIDENCE, question=QUESTION).turned == 0.0


def test_semantic_comparison_has_its_own_coefficients() -> None:
    grounded = groundedness(INVENTED, EVIDENCE, question=QUESTION)
    compared = SemanticComparison(near=0.5, denied=0.25)
    assert grounded.unknown
    assert quality(INVENTED, grounded, 0.5) == LEXICAL(quality_features(INVENTED, grounded, 0.5))
    assert quality(INVENTED, grounded, 0.5, compared) == SEMANTIC(quality_features(INVENTED, grounded, 0.5, compared))
    found = quality_features(INVENTED, grounded, 0.5, compared)
    assert (found.unknown, found.near, found.denied, found.relevant) == (1.0, 0.5, 0.25, 0.5)
    for changed, better in (("near", 0.9), ("unknown", 0.0), ("denied", 0.0), ("relevant", 0.9)):
        assert SEMANTIC(found._replace(**{changed: better})) > SEMANTIC(found), changed
