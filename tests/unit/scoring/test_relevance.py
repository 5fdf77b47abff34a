"""Relevance: an answer consists of the right words and is about the question."""

import pytest

from poise.contracts import Passage
from poise.scoring import Evidence, groundedness, relevance

TEXT = (
    "The modulo operator yields the remainder from the division of the first argument by the second. "
    "The power operator yields its left argument raised to the power of its right argument."
)
EVIDENCE = Evidence([Passage(id="d#0", source="s", text=TEXT, score=1.0, age=0.0)])
QUESTION = "What does the modulo operator yield?"


def test_answer_with_the_best_sentence_is_relevant() -> None:
    assert relevance("It yields the remainder from the division of its arguments.", EVIDENCE, QUESTION) > 0.8


@pytest.mark.parametrize(
    "answer",
    [
        "The power operator yields its left argument raised to the power of its right argument.",
        "The modulo operator yields the modulo.",
        "",
    ],
)
def test_grounded_answer_to_another_question_is_not_relevant(answer: str) -> None:
    assert relevance(answer, EVIDENCE, QUESTION) < 0.5


def test_relevance_rejects_a_grounded_answer_beside_the_question() -> None:
    beside = "The power operator yields its left argument raised to the power of its right argument."
    assert groundedness(beside, EVIDENCE, question=QUESTION).score > 0.9
    assert relevance(beside, EVIDENCE, QUESTION) < 0.5


def test_relevance_without_passages_is_zero() -> None:
    assert relevance("Anything.", Evidence([]), QUESTION) == 0
