"""Titles and fences of Markdown, as CommonMark defines them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.text.markdown import Heading, open_fence, parse_heading

SLOW = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)(?:[ \t]+#+)?\s*")
"""What says the same and takes cubic time."""


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# One", Heading(1, "One")),
        ("   ###### Six ##  ", Heading(6, "Six")),
        ("# C#", Heading(1, "C#")),
        ("# C# #", Heading(1, "C#")),
        ("# a ## ##", Heading(1, "a ##")),
        ("## #", Heading(2, "#")),
        ("# # #", Heading(1, "#")),
        ("#\tTab\t#\t", Heading(1, "Tab")),
        ("# a" + 30_000 * " " + "x", Heading(1, "a" + 30_000 * " " + "x")),
        ("#", None),
        ("# ", None),
        ("#One", None),
        ("####### Seven", None),
        ("    # Code", None),
    ],
)
def test_parse_heading_returns_level_and_title(line: str, title: Heading | None) -> None:
    assert parse_heading(line) == title


@given(st.text(alphabet="# \ta\x0b\u2003", max_size=30))
def test_parse_heading_equals_the_pattern(line: str) -> None:
    found = SLOW.fullmatch(line)
    assert parse_heading(line) == (Heading(len(found[1]), found[2]) if found else None)


def test_fence_is_closed_by_the_same_character_of_at_least_its_length() -> None:
    fence = ""
    seen = []
    for line in ("``", "```py", "~~~", "``", "````", "   ~~~~", "~~~", "~~~~~ ", "x"):
        fence = open_fence(line, fence)
        seen.append(fence)
    assert seen == ["", "```", "```", "```", "", "~~~~", "~~~~", "", ""]
