"""What makes scoring quick changes no score: each short way against the long one that it stands for."""

from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Passage
from poise.scoring import Evidence
from poise.scoring.groundedness import _at_most, _in_order

EVIDENCE = Evidence(
    [Passage(id="p#0", source="p", text="Alpha beta gamma. Beta gamma. Gamma delta alpha beta.", score=1.0, age=0.0)]
)
WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), max_size=12)


def whole_table(said: list[str], there: list[str]) -> float:
    """The longest common subsequence by weight, cell by cell."""
    best = [0.0] * (len(there) + 1)
    for stem in said:
        before, best = best, [0.0]
        for place, other in enumerate(there, 1):
            both = before[place - 1] + EVIDENCE.weight(stem)
            best.append(both if stem == other else max(before[place], best[-1]))
    return best[-1] / (EVIDENCE.weigh(said) or 1.0)


@given(said=WORDS, there=WORDS)
def test_words_that_do_not_stand_in_both_may_be_left_out(said: list[str], there: list[str]) -> None:
    assert _in_order(said, tuple(there), EVIDENCE) == whole_table(said, there)


@given(said=WORDS, there=WORDS)
def test_no_window_that_might_be_the_best_is_left_unread(said: list[str], there: list[str]) -> None:
    assert _at_most(said, tuple(there), EVIDENCE) >= _in_order(said, tuple(there), EVIDENCE) - 1e-12
