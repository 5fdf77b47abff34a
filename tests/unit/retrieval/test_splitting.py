"""Splitting: no word is lost, no passage is too large, and passages end at paragraphs."""

import pydoc_data.topics
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poise_services.retrieval import splitting
from poise_services.retrieval.splitting import (
    CHARS_PER_PASSAGE,
    FREE_PASSAGES,
    MAX_HEADING_CHARS,
    MAX_TOKENS,
    TITLE_SEPARATOR,
    SplitPassage,
    estimate_tokens,
    split,
)

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
lines = st.lists(words, max_size=12).map(" ".join)
marks = st.sampled_from(
    ["", "", "====", "----------", "# One", "## Two ##", "```", "    code", "* item", "a:", "|--|--|"]
)
texts = st.lists(st.one_of(lines, marks), max_size=60).map("\n".join)


@given(texts)
@example("x" * 5_000)
@example("one. " * 900)
@example("| a | b |\n" * 300)
def test_without_titles_every_word_stays_in_its_place(text: str) -> None:
    plain = "\n".join(line for line in text.split("\n") if not set(line.strip()) <= set('=-*~^"#+'))
    chunks = split(plain)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(plain.split())
    assert all(chunk.heading == () for chunk in chunks)


@given(texts, st.sampled_from(["text", "markdown"]))
def test_passages_are_bounded_and_the_same_each_time(text: str, form: Literal["text", "markdown"]) -> None:
    chunks = split(text, form)
    assert all(0 < estimate_tokens(chunk.text) <= MAX_TOKENS or not estimate_tokens(text) for chunk in chunks)
    assert all(chunk.text.strip() for chunk in chunks)
    assert chunks == split(text, form)


@given(texts.filter(str.strip))
def test_a_text_has_a_passage(text: str) -> None:
    assert split(text, "text")
    assert split(text, "markdown")


@given(st.lists(st.tuples(st.integers(1, 6), st.text("abc", min_size=1, max_size=5), lines), min_size=1, max_size=8))
def test_no_title_and_no_word_of_markdown_is_lost(sections: list[tuple[int, str, str]]) -> None:
    bodies = ["".join(c for c in body if c not in "`~#=-") for _, _, body in sections]
    text = "\n\n".join(
        f"{'#' * level} {title}\n\n{body}" for (level, title, _), body in zip(sections, bodies, strict=True)
    )
    chunks = split(text, "markdown")
    written = " ".join(" ".join((*chunk.heading, chunk.text)) for chunk in chunks).split()
    assert {title for _, title, _ in sections} <= set(written)
    joined = "".join("".join(chunk.text.split()) for chunk in chunks)
    for body in bodies:
        assert "".join(body.split()) in joined


def test_titles_of_restructured_text() -> None:
    text = "Top\n***\n\nIntro.\n\nInner\n=====\n\nWithin.\n\nDeep\n----\n\nDeeper.\n\nNext\n====\n\nAfter.\n"
    assert split(text) == [
        SplitPassage(("Top",), "Intro."),
        SplitPassage(("Top", "Inner"), "Within."),
        SplitPassage(("Top", "Inner", "Deep"), "Deeper."),
        SplitPassage(("Top", "Next"), "After."),
    ]


def test_titles_of_markdown_but_not_those_in_its_code() -> None:
    text = "Title\n=====\n\nHi.\n\n## Use\n\n```sh\n# no title\n\nls\n```\n\n### Empty\n"
    assert split(text, "markdown") == [
        SplitPassage(("Title",), "Hi."),
        SplitPassage(("Title", "Use"), "```sh\n# no title\n\nls\n```"),
        SplitPassage(("Title", "Use"), "Empty"),
    ]


def test_an_overlined_title_is_one() -> None:
    assert split("=====\nTitle\n=====\n\nText.") == [SplitPassage(("Title",), "Text.")]


@pytest.mark.parametrize("text", ["a  b\n-  -\n1  2", "term\n    meaning", "no\n=", "a\nTitle\n====="])
def test_lines_that_are_not_titles(text: str) -> None:
    assert [chunk.heading for chunk in split(text)] == [()]


def test_related_blocks_stay_together() -> None:
    long = "word " * 60
    text = f"{long}\n\nIt goes like this:\n\n   code()\n\n{long}\n\n{long}"
    assert [estimate_tokens(chunk.text) for chunk in split(text)] == [127, 60]
    assert split(text)[0].text.endswith(f"It goes like this:\n\n   code()\n\n{long.strip()}")


@pytest.mark.parametrize("form", ["text", "markdown"])
@pytest.mark.parametrize(
    "text",
    [
        "The lamp" + " " * 790_000 + " was lit.",
        " " * 790_000 + "The lamp was lit.",
        "The lamp\t" + "\t\x0b" * 300_000 + "\u2003" * 100_000 + "was lit. At dusk.",
        ("a" + " " * 63) * 3_000,
        "|" + ("\u2003" * 63 + "|") * 3_000,
    ],
)
def test_white_space_counts_in_a_passages_size(text: str, form: Literal["text", "markdown"]) -> None:
    chunks = split(text, form)
    assert max(len(chunk.text.encode()) for chunk in chunks) < 50_000
    assert " ".join(chunk.text for chunk in chunks).split() == text.split()


def test_the_demo_corpus() -> None:
    chunks = [chunk for text in pydoc_data.topics.topics.values() for chunk in split(text)]
    assert 700 < len(chunks) < 1_200
    assert all(chunk.heading for chunk in chunks)
    (passage,) = split(pydoc_data.topics.topics["pass"])
    assert passage.heading == ('The "pass" statement',)
    assert "null operation" in passage.text


def cost(text: str, form: Literal["text", "markdown"]) -> tuple[int, int]:
    """Return the number of a document's passages, and their total characters including titles."""
    chunks = split(text, form)
    assert all(sum(map(len, chunk.heading)) <= MAX_HEADING_CHARS for chunk in chunks)
    assert all(estimate_tokens(chunk.text) <= MAX_TOKENS for chunk in chunks)
    return len(chunks), sum(len(TITLE_SEPARATOR.join((*chunk.heading, chunk.text))) for chunk in chunks)


NESTED = "".join(f"{'#' * level} {'title ' * 30}{level}\n" for level in range(1, 6))
ALL_MARKS = "".join(f"{'t' * 150}\n{mark * 150}\n\n" for mark in '=-~^"#+*')


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("".join(f"# {number}\n" for number in range(3_000)), "markdown"),
        ("".join(f"{'#' * (1 + number % 6)} t{number}\n" for number in range(3_000)), "markdown"),
        ("".join(f"# {number}\n\nx\n\n" for number in range(3_000)), "markdown"),
        (NESTED + "".join(f"###### {number}\n\nx\n\n" for number in range(3_000)), "markdown"),
        (NESTED + "".join(f"###### {'a' * (number % 190)}\n\nx\n\n" for number in range(300)), "markdown"),
        ("".join(f"{number}\n====\n\nx\n\n" for number in range(1_000)), "text"),
        (ALL_MARKS + "".join(f"{number}\n****\n\nx\n\n" for number in range(1_000)), "text"),
        ("a.a.a.a.a.a.a.a.a.a.\n\n" * 3_000, "text"),
        ("a\n\n" * 9_000, "text"),
        ("a b " * 9_000, "text"),
        ("|a" * 9_000, "text"),
    ],
)
def test_the_number_of_passages_is_bounded_by_the_documents_length(
    text: str, form: Literal["text", "markdown"]
) -> None:
    passages, chars = cost(text, form)
    assert passages <= FREE_PASSAGES + len(text) // CHARS_PER_PASSAGE
    assert chars <= 2 * len(text) + (MAX_HEADING_CHARS + 16 * len(TITLE_SEPARATOR)) * passages


@given(texts, st.sampled_from(["text", "markdown"]))
def test_the_bound_holds_for_any_text(text: str, form: Literal["text", "markdown"]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "FREE_PASSAGES", 1)
        assert cost(text, form)[0] <= 1 + len(text) // CHARS_PER_PASSAGE


def test_merged_passages_keep_every_title_and_text_in_order() -> None:
    text = "# Top\n\n" + "".join(f"## Title{number}\n\ntext{number}\n\n### Deep{number}\n\n" for number in range(200))
    chunks = split(text, "markdown")
    assert len(chunks) <= FREE_PASSAGES + len(text) // CHARS_PER_PASSAGE
    said = "\n".join("\n".join((*chunk.heading, chunk.text)) for chunk in chunks)
    assert chunks[0].heading == ("Top", "Title0")
    places = [said.index(f"{kind}{number}") for number in range(200) for kind in ("Title", "text", "Deep")]
    assert places == sorted(places)


def test_a_passage_carries_the_nearest_titles_and_none_is_lost() -> None:
    text = "".join(f"{'#' * level} {level}{'x' * 150}\n\n" for level in range(1, 6)) + "Text.\n"
    chunks = split(text, "markdown")
    assert chunks[-1] == SplitPassage((f"4{'x' * 150}", f"5{'x' * 150}"), "Text.")
    said = "\n".join("\n".join((*chunk.heading, chunk.text)) for chunk in chunks)
    assert all(f"{level}{'x' * 150}" in said for level in range(1, 6))
