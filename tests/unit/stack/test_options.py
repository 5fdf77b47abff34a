"""What a stack can be asked to be, and what it refuses."""

import pytest

from poise.errors import SetupError
from poise.stack import Existing, StackOptions, parse_workers


def test_tiers_that_are_not_named_keep_one_worker() -> None:
    workers = parse_workers("inference=3, retrieval=0")

    assert workers == {"gateway": 1, "orchestration": 1, "retrieval": 0, "inference": 3, "evaluation": 1}


@pytest.mark.parametrize("text", ["", " ", ","])
def test_nothing_means_one_of_each(text: str) -> None:
    assert set(parse_workers(text).values()) == {1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inferense=3", "no tier 'inferense'"),
        ("inference=-1", "inference=3,retrieval=2"),
        ("inference=many", "inference=3,retrieval=2"),
        ("inference", "inference=3,retrieval=2"),
        ("=3", "no tier ''"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as refusal:
        parse_workers(text)
    assert "\n" not in str(refusal.value)


def test_a_model_server_needs_the_name_of_its_model() -> None:
    with pytest.raises(SetupError, match="--model-name"):
        StackOptions(existing=Existing(model_url="http://127.0.0.1:1"))


def test_an_unknown_tier_is_refused_by_the_library_too() -> None:
    with pytest.raises(SetupError, match="no tier 'poetry'"):
        StackOptions(workers={"poetry": 1})
