"""Which asks are identical."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_services.orchestration.cache_keys import answer_key, document_id, normalize_question
from poise_services.orchestration.settings import OrchestrationSettings, Variant

QUESTION = "What does pass do?"


def key(question: str = QUESTION, tenant: str = "t", workflow: str = "answer", drawn: int = 0, **how: Any) -> str:
    settings = OrchestrationSettings(**how)
    return answer_key(tenant, workflow, question, settings.variants[drawn], settings)


@given(st.text())
def test_normalizing_is_idempotent(text: str) -> None:
    once = normalize_question(text)
    assert normalize_question(once) == once or once.endswith("?")


@given(
    st.lists(st.text(alphabet="abcÄß*?.¼ﬁ", min_size=1), min_size=1),
    st.lists(st.sampled_from(" \t\n\u2003"), min_size=1),
)
def test_white_space_and_case_are_ignored(words: list[str], blanks: list[str]) -> None:
    spread = "".join(blanks).join(words)
    assert normalize_question(f" {spread.upper()}\n") == normalize_question(" ".join(words).upper())
    assert normalize_question(spread.upper()) == normalize_question(spread.upper().lower())


@pytest.mark.parametrize(
    "same",
    ["what does pass do", "What does  PASS do ?", " What\ndoes pass do?", "What does ｐａｓｓ do?"],
)
def test_equivalent_questions_have_one_key(same: str) -> None:
    assert key(same) == key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does * do?", "What does ** do?"),
        ("What is C?", "What is C#?"),
        ("What is `...`?", "What is `.`?"),
        ("What is .?", "What is ...?"),
        ("What does ? do", "What does do"),
        ("What is ?", "What is ??"),
        ("Is it 1 or 2?", "Is it 12?"),
    ],
)
def test_other_punctuation_is_significant(one: str, other: str) -> None:
    assert key(one) != key(other)


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "u"},
        {"workflow": "other"},
        {"question": "What does break do?"},
        {"top_k": 3},
        {"integrations": ["weather"]},
        {"ladder": {"min_groundedness": 0.8}},
        {"ladder": {"min_relevance": 0.1}},
        {"variants": [{"name": "other"}]},
        *({"variants": [{"name": "default", **one}]} for one in (
            {"backend": "gpu"}, {"prompt_sentences": 3}, {"system": "Be brief."}, {"max_tokens": 9},
            {"temperature": 1.0},
        )),
    ],
    ids=str,
)  # fmt: skip
def test_what_affects_the_answer_changes_the_key(other: dict[str, Any]) -> None:
    assert key(**other) != key()


def test_what_does_not_affect_the_answer_does_not_change_the_key() -> None:
    assert key(variants=[{"name": "default", "weight": 5, "input_token_price": 1, "output_token_price": 2}]) == key()
    assert key(ladder={"extractive_sentences": 3}, cache={"max_age": 5}) == key()


def test_variants_of_one_cache_group_share_answers() -> None:
    both = [{"name": "a", "cache_group": "f"}, {"name": "b", "cache_group": "f", "backend": "gpu"}, {"name": "c"}]
    assert key(variants=both, drawn=0) == key(variants=both, drawn=1) == key(variants=both[::-1], drawn=1)
    assert key(variants=both, drawn=2) != key(variants=both, drawn=0)
    other = [both[0], {**both[1], "backend": "tpu"}]
    assert key(variants=other, drawn=0) != key(variants=both, drawn=0), "until one of them is another"


def test_a_passage_id_has_the_document_id() -> None:
    assert document_id("a#b#3") == "a#b"


def test_a_variant_without_a_cache_group_shares_with_itself() -> None:
    assert Variant(name="a").cache_group is None
