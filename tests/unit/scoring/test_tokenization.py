"""Tokenization of text for scoring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.scoring import tokenization


@pytest.mark.parametrize(
    ("written", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. the manual. It helps.", ["See e.g. the manual.", "It helps."]),
        ("A line\nbroken in two. Next.", ["A line broken in two.", "Next."]),
        ("Version 3.11 is out.", ["Version 3.11 is out."]),
        ("- first point\n- second point", ["first point", "second point"]),
        (
            "| header | holds |\n|---|---|\n| a | one |\n| b | two |",
            ["| header | holds |", "| a | one |", "| b | two |"],
        ),
        ("", []),
        ("   \n\n ", []),
    ],
)
def test_text_is_split_into_sentences(written: str, sentences: list[str]) -> None:
    assert list(tokenization.sentences(written)) == sentences


@given(st.text())
def test_any_text_can_be_tokenized(written: str) -> None:
    assert all(sentence.strip() for sentence in tokenization.sentences(written))
    tokenization.stems(written)
    tokenization.checkable_facts(written)
    tokenization.is_negated(written)


@pytest.mark.parametrize(
    ("written", "facts"),
    [
        ("It raises ZeroDivisionError.", {"ZeroDivisionError"}),
        ("It takes 42 steps.", {"42"}),
        ("Call sys.exit now.", {"sys.exit"}),
        ("It was made by Guido in Holland.", {"Guido", "Holland"}),
        ("nothing to see", set()),
    ],
)
def test_checkable_facts_are_numbers_identifiers_and_names(written: str, facts: set[str]) -> None:
    assert set(tokenization.checkable_facts(written)) == facts


def test_double_negation_is_not_a_negation() -> None:
    assert tokenization.is_negated("It does not return.")
    assert not tokenization.is_negated("It returns.")
