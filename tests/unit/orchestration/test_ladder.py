from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Completion, Passage
from poise.scoring import Evidence
from services.orchestration.ladder import Situation, step_down
from services.orchestration.settings import NO_ANSWER, Ladder

SETTINGS = Ladder()
WORDS = ["the", "lamp", "was", "not", "lit", "in", "1847", "by", "Ada", "Quill", "keeper", "it", "burns", "oil", "sea"]

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(lambda words: " ".join(words) + ".")
texts = st.lists(sentences, max_size=4).map(" ".join) | st.text(max_size=200)
troubles = st.none() | st.just("the model failed: it is away")


def passages(of: list[str]) -> list[Passage]:
    return [Passage(id=f"d#{n}", source="d", text=text, score=1.0, age=1.0) for n, text in enumerate(of)]


def completion(text: str) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


@given(sentences | st.text(min_size=1, max_size=80), st.lists(texts, max_size=4), st.none() | texts, troubles)
def test_whatever_was_found_and_written_some_rung_bears(
    question: str, found: list[str], wrote: str | None, trouble: str | None
) -> None:
    given = passages(found)
    written = None if wrote is None else completion(wrote)
    standing = step_down(Situation(question, Evidence(given), written, trouble), SETTINGS)

    assert standing.text.strip()
    assert (standing.rung == "primary") == (standing.reason is None)
    assert {citation.passage for citation in standing.citations} <= {passage.id for passage in given}
    match standing.rung:
        case "primary":
            assert standing.text == (wrote or "").strip()
            assert standing.citations
        case "extractive":
            assert standing.citations
        case "canned":
            assert standing.text == NO_ANSWER
            assert not standing.citations


@given(sentences, st.lists(sentences, min_size=1, max_size=4), troubles)
def test_an_extractive_answer_is_word_for_word_of_the_passages(
    question: str, found: list[str], trouble: str | None
) -> None:
    standing = step_down(Situation(question, Evidence(passages(found)), None, trouble), SETTINGS)
    if standing.rung == "extractive":
        assert any(standing.text in text for text in found)
        assert [citation.quote for citation in standing.citations] == [standing.text]


def test_each_rung_that_broke_says_why_once() -> None:
    trouble = "retrieval found nothing"
    standing = step_down(Situation("Why?", Evidence([]), None, trouble), SETTINGS)
    assert standing.rung == "canned"
    assert (standing.reason or "").startswith(f"{trouble}; ")
    assert (standing.reason or "").count(trouble) == 1


def test_how_grounded_an_answer_must_be_is_a_setting() -> None:
    given = passages(["The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."])
    situation = Situation("Who lit it?", Evidence(given), completion("Bruno Falk lit it in 1902."), None)
    assert step_down(situation, Ladder(grounded=1.0)).rung == "extractive"
    assert step_down(situation, Ladder(grounded=0.0, relevant=0.0)).rung == "primary"


def test_an_answer_to_another_question_gives_way_though_the_passages_bear_it() -> None:
    given = passages(["The lamp of Harrow Point burns whale oil. The keeper of Harrow Point is Ada Quill."])
    beside = "The keeper of Harrow Point is Ada Quill."
    situation = Situation("What does the lamp of Harrow Point burn?", Evidence(given), completion(beside), None)
    standing = step_down(situation, SETTINGS)
    assert (standing.rung, standing.text) == ("extractive", "The lamp of Harrow Point burns whale oil.")
    assert step_down(situation, Ladder(relevant=0.0)).text == beside
