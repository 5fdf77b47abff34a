"""Common shift: a few answers of the others do not prove that a variant became worse alone."""

import pytest

from poise.policy.detection.common_shift import CommonShift, common_shift
from poise.policy.detection.counts import Counts


@pytest.mark.parametrize(
    ("bad", "answers", "told"),
    [
        (2, 22, CommonShift.PERHAPS),  # 9 % instead of 5 %: the traffic's 35 % is still possible
        (5, 100, CommonShift.NO),
        (35, 100, CommonShift.YES),
        (1, 10, CommonShift.PERHAPS),
    ],
)
def test_few_answers_of_the_others_do_not_rule_out_a_common_shift(bad: int, answers: int, told: CommonShift) -> None:
    tally = Counts(("a", "b"))
    begun = tally.mark("loss")
    for number in range(1_000):
        tally.add("ab"[number % 2], "loss", float(number % 40 < 2))
    before = tally.mark("loss")
    for number in range(200):
        tally.add("a", "loss", float(number % 20 < 5))
    for number in range(answers):
        tally.add("b", "loss", float(number < bad))
    assert common_shift(tally, "a", ["b"], begun, before) is told
