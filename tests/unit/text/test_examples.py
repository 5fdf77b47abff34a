"""Four small texts that blocked a worker for seconds to minutes, tested where they enter."""

from typing import Literal

import pytest

from poise.contracts import Ask, Completion, Document, Passage, Usage
from poise.scoring import Evidence, relevance
from poise_services.gateway.languages import preferred_language
from poise_services.orchestration.answer_check import check
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import LadderSettings
from poise_services.retrieval.passages import split_document

pytestmark = pytest.mark.timeout(60)
HEADING = "# a" + " " * 30_000 + "x"
RULE = "|" + " " * 45_000 + "x"
LANGUAGES = "de;" + " " * 60_000 + "x"
ABBREVIATIONS = "A. " * 2_000


@pytest.mark.parametrize("text", [HEADING, RULE, LANGUAGES, ABBREVIATIONS])
def test_slow_texts_are_split_as_documents(text: str) -> None:
    forms: tuple[Literal["text", "markdown"], ...] = ("text", "markdown")
    for form in forms:
        assert split_document(Document(text=text, source="s", format=form))


@pytest.mark.parametrize("text", [HEADING, RULE, LANGUAGES, ABBREVIATIONS])
def test_slow_texts_are_checked_as_passages_and_answers(text: str) -> None:
    evidence = Evidence([Passage(id="d#0", source="s", text=text, score=1.0, age=0.0)])
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    for said in (text, "It ends."):
        completion = Completion(text=said, model="m", backend="default", finish_reason="stop", usage=usage)
        assert build_prompt("What is a?", evidence, 2, None)
        assert check(completion, evidence, "What is a?", LadderSettings(), "v") is not None
        assert 0 <= relevance(said, evidence, "What is a?") <= 1


def test_accept_language_is_parsed_up_to_its_length_limit() -> None:
    assert preferred_language(LANGUAGES) is None
    assert preferred_language("en, " + LANGUAGES) == "en"
    assert preferred_language("en;q=0.5, " * 6_000 + "de") == "en"


def test_ask_rejects_a_longer_question() -> None:
    with pytest.raises(ValueError, match="at most 8000 characters"):
        Ask(question=LANGUAGES)
