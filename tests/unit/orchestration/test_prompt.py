"""The chat that is sent to the model."""

from poise.contracts import Passage
from poise.scoring import Evidence
from poise_services.orchestration.prompt import build_prompt

QUESTION = "Who lit the lamp of Harrow Point?"
TEXT = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
EVIDENCE = Evidence((Passage(id="lamp#0", source="lamp", text=TEXT, score=1.0, age=1.0),))


def test_the_prompt_holds_the_passages_and_the_question() -> None:
    (system, user) = build_prompt(QUESTION, EVIDENCE, 1, "Be brief.")
    assert (system.role, system.content) == ("system", "Be brief.")
    assert TEXT in user.content
    assert QUESTION in user.content


def test_without_a_system_message_there_is_one_message() -> None:
    assert len(build_prompt(QUESTION, EVIDENCE, 1, None)) == 1
