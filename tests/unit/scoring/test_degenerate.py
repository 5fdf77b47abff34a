"""Degenerate output: empty, looping, cut off, a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.scoring import is_empty, is_looping, is_refusal, is_truncated

FINE = (
    "The pass statement is a null operation: when it is executed, nothing happens. It is useful as a placeholder when "
    "a statement is required syntactically, but no code needs to be executed."
)


@pytest.mark.parametrize(("answer", "expected"), [("", True), (" \n", True), ("...", True), ("No.", False)])
def test_is_empty_recognizes_empty_answers(answer: str, *, expected: bool) -> None:
    assert is_empty(answer) is expected


@pytest.mark.parametrize(
    "phrase", ["the loop goes on and ", "yes yes yes yes ", "a statement that is a statement that is "]
)
def test_is_looping_recognizes_repetition(phrase: str) -> None:
    assert is_looping(phrase * 6)


def test_is_looping_accepts_plain_prose() -> None:
    assert not is_looping(FINE)


@given(st.text(max_size=500))
def test_any_text_can_be_checked(answer: str) -> None:
    is_empty(answer)
    is_looping(answer)


@pytest.mark.parametrize(
    ("answer", "finish_reason", "expected"),
    [("The end", "length", True), ("The end.", "length", False), ("The end", "stop", False), ("The end", None, False)],
)
def test_is_truncated_recognizes_cut_off_answers(answer: str, finish_reason: str | None, *, expected: bool) -> None:
    assert is_truncated(answer, finish_reason) is expected


@pytest.mark.parametrize(
    ("answer", "is_refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI, I have no opinion.", True),
        ("The passages above do not mention it.", True),
        ("I don’t know.", True),
        ("The statement does not contain annotations.", False),
        ("A function cannot answer twice.", False),
        (FINE, False),
    ],
)
def test_is_refusal_recognizes_refusals(answer: str, *, is_refused: bool) -> None:
    assert is_refusal(answer) is is_refused
