"""The scripted model follows its scenario, and the scores can detect what it does."""

from collections import Counter

import pytest

from poise.contracts import Draw, Passage, RunRecord
from poise.scoring import Evidence, extract_sentences
from poise_labs.lab.behavior import ERROR_KINDS, ScriptedAnswer, scripted_answer
from poise_labs.lab.questions import Fact, LabQuestion, lab_corpus, sample_questions, wrong_answer
from poise_labs.lab.report import auc
from poise_labs.lab.scenario import Behavior
from poise_services.evaluation.run_scores import score_run

USUAL = Behavior(wrong=0.05, seconds=0.1)
WORSE = Behavior(wrong=0.40, seconds=0.1)


def prompt_of(question: LabQuestion) -> list[str]:
    return [question.fact.sentence, "The keeper of Nowhere is Ansel Falk, who lives on the island all the year."]


def scripted_answers(
    questions: list[LabQuestion], now: Behavior, usual: Behavior = USUAL, seed: int = 1
) -> list[ScriptedAnswer]:
    return [scripted_answer(one, prompt_of(one), variant="cheap", seed=seed, usual=usual, now=now) for one in questions]


def test_answers_are_reproducible_by_seed() -> None:
    some = sample_questions(50, 1)
    assert scripted_answers(some, WORSE) == scripted_answers(some, WORSE)
    assert scripted_answers(some, WORSE) != scripted_answers(some, WORSE, seed=2)


def test_wrong_answers_have_the_configured_frequency() -> None:
    found = scripted_answers(sample_questions(4_000, 1), WORSE)
    assert sum(not one.right for one in found) / 4_000 == pytest.approx(0.40, abs=0.025)
    assert sum(not one.right for one in scripted_answers(sample_questions(4_000, 1), USUAL)) / 4_000 == pytest.approx(
        0.05, abs=0.012
    )


def test_answer_is_harmed_if_it_is_wrong_only_with_the_degradation() -> None:
    some = sample_questions(1_000, 1)
    before, after = scripted_answers(some, USUAL), scripted_answers(some, WORSE)
    for was, now in zip(before, after, strict=True):
        assert now.harmed == (was.right and not now.right)
        assert was.right or not now.right  # an answer that would have been wrong stays wrong


def test_answer_is_harmed_if_it_is_slow_only_with_the_degradation() -> None:
    some = sample_questions(1_000, 1)
    usual, slow = Behavior(slow=0.01, slow_by=2.0), Behavior(slow=0.7, slow_by=2.0)
    found = scripted_answers(some, slow, usual)
    assert sum(one.harmed for one in found) / 1_000 == pytest.approx(0.69, abs=0.05)
    assert all(one.seconds > 2.0 for one in found if one.harmed)


def test_wrong_answers_have_every_error_kind_and_are_never_right() -> None:
    some = sample_questions(1_000, 1)
    found = scripted_answers(some, Behavior(wrong=1.0))
    assert set(Counter(one.error_kind for one in found)) == set(ERROR_KINDS)
    assert not any(question.right(one.text) for question, one in zip(some, found, strict=True))


def test_answer_without_its_sentence_quotes_the_prompt() -> None:
    question = sample_questions(1, 1)[0]
    found = scripted_answer(question, ["It rains."], variant="a", seed=1, usual=Behavior(), now=Behavior())
    assert (found.text, found.right, found.error_kind, found.harmed) == ("It rains.", False, None, False)


def test_sampled_questions_are_unique_and_ordered_by_seed() -> None:
    first, second = sample_questions(1_000, 1), sample_questions(1_000, 2)
    assert len({one.text for one in first}) == 1_000
    assert first != second
    with pytest.raises(ValueError, match="different questions, not"):
        sample_questions(1_000_000, 1)


def test_each_question_names_its_station_and_ends_with_its_only_question_mark() -> None:
    for one in lab_corpus().questions:
        assert one.text.count("?") == 1
        assert one.text.endswith("?")
        assert one.fact.station in one.text


def test_wrong_answer_has_the_requested_error_kind() -> None:
    import random  # noqa: PLC0415 - of this test alone

    fact = Fact("Tarvik", 2, "40")
    question, chance = LabQuestion("How high is the mast of Tarvik?", fact), random.Random(1)
    assert wrong_answer(question, "negation", [], chance) == fact.denied
    assert "mast of Tarvik is" in wrong_answer(question, "number", [], chance)
    assert "Tarvik" not in wrong_answer(question, "name", [], chance)
    assert wrong_answer(question, "elsewhere", [fact.sentence, "It rains."], chance) == "It rains."


def test_steering_score_separates_right_from_wrong_answers() -> None:
    """Use passages in retrieval's order: those of the asked station first, then those of others."""
    passages = {}
    for name, document in lab_corpus().documents.items():
        for number, section in enumerate(document.text.split("## ")[1:]):
            station, _, text = section.partition("\n\n")
            passages[station] = Passage(
                id=f"{name}#{number}", source=name, heading=station, text=text.strip(), score=0.5, age=1.0
            )
    stations, found = lab_corpus().stations, []
    for place, question in enumerate(sample_questions(400, 1)):
        others = [stations[(place * 7 + step) % len(stations)] for step in range(6)]
        some = tuple(passages[one] for one in dict.fromkeys([question.fact.station, *others]))
        lines = [line.text for line in extract_sentences(question.text, Evidence(some), 2)]
        said = scripted_answer(question, lines, variant="a", seed=1, usual=Behavior(), now=Behavior(wrong=0.5))
        draw = Draw(variant="a", probability=0.5, policy="p", policy_version=1, raw=said.text, finish_reason="stop")
        record = RunRecord(
            run_id=f"{place}", workflow="answer", tenant="t", question=question.text, started=0.0, finished=1.0,
            draw=draw, passages=some,
        )  # fmt: skip
        found.append((score_run(record).values["quality"], said.right))
    separated = auc(found)
    assert separated is not None
    assert separated > 0.95
