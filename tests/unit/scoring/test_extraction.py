"""Extraction of the sentence that answers the question."""

import pytest

from poise.contracts import Passage
from poise.scoring import Evidence, extract_sentences


def passage(name: str, text: str, heading: str | None = None) -> Passage:
    return Passage(id=f"{name}#0", source=name, heading=heading, text=text, score=1.0, age=0.0)


EVIDENCE = Evidence(
    [
        passage(
            "break",
            "It may only occur nested in a loop. It terminates the nearest enclosing loop. When it passes control out "
            "of a try statement, that clause is executed first.",
            "The break statement",
        ),
        passage(
            "pass", "The pass statement is a null operation. Nothing happens when it is executed.", "The pass statement"
        ),
        passage("house", "The front door of the house is vermilion."),
        passage(
            "function",
            "A default value that is mutable is shared by all calls of the function. **Default values are evaluated "
            "once, when the function is defined.**",
        ),
    ]
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What does the pass statement do?", "The pass statement is a null operation."),
        ("How are default values evaluated?", "**Default values are evaluated once, when the function is defined.**"),
        ("What is the colour of the front door of the house?", "The front door of the house is vermilion."),
    ],
)
def test_sentence_that_answers_the_question_is_first(question: str, answer: str) -> None:
    assert extract_sentences(question, EVIDENCE, 1)[0].text == answer


def test_no_sentence_is_extracted_without_a_relevant_passage() -> None:
    assert extract_sentences("Quel temps fait-il?", EVIDENCE, 3) == []
    assert extract_sentences("anything", Evidence([]), 3) == []


def test_extraction_returns_at_most_the_limit_without_duplicates() -> None:
    lines = extract_sentences("What does the statement do when it is executed?", EVIDENCE, 3)
    assert len(lines) == len(set(lines)) <= 3
