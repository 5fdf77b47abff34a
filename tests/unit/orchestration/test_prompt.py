"""The prompt, and the fraction of asks whose prompt has no passages."""

from uuid import uuid4

from poise.contracts import Passage
from poise.scoring import Evidence
from poise_services.orchestration.prompt import build_prompt, closed_book, without_passages

QUESTION = "Who lit the lamp of Harrow Point?"
TEXT = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
EVIDENCE = Evidence((Passage(id="lamp#0", source="lamp", text=TEXT, score=1.0, age=1.0),))
SECRET = b"secret"


def test_without_passages_the_question_is_all_that_is_said() -> None:
    (system, asked) = closed_book(QUESTION, "Be brief.")
    assert (system.role, system.content) == ("system", "Be brief.")
    assert QUESTION in asked.content
    assert "text above" not in asked.content
    assert TEXT in build_prompt(QUESTION, EVIDENCE, 1, None)[-1].content
    assert len(closed_book(QUESTION, None)) == 1


def test_the_share_is_kept_and_one_run_is_always_on_the_same_side() -> None:
    runs = [str(uuid4()) for _ in range(4_000)]
    left_out = [without_passages(SECRET, run, "big", 0.3) for run in runs]
    assert 1_050 < sum(left_out) < 1_350, "six standard deviations"
    assert left_out == [without_passages(SECRET, run, "big", 0.3) for run in runs]
    assert {run for run in runs if without_passages(SECRET, run, "big", 0.1)} < {
        run for run, out in zip(runs, left_out, strict=True) if out
    }
    assert left_out != [without_passages(b"another", run, "big", 0.3) for run in runs], "nobody else can tell"
    assert left_out != [without_passages(SECRET, run, "small", 0.3) for run in runs], "variants are not hit together"


def test_none_and_all_are_none_and_all() -> None:
    runs = [str(uuid4()) for _ in range(1_000)]
    assert not any(without_passages(SECRET, run, "big", 0.0) for run in runs)
    assert all(without_passages(SECRET, run, "big", 1.0) for run in runs)
