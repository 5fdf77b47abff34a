import tomllib

import pytest

from poise.config.toml_lines import key_lines, line_of_syntax_error

AWKWARD = '''\
# [policy] is below
title = "a [b] = c"   # not a key
owner.name."first.last" = { x = 1, y = { z = 2 } }
text = """
[policy]
min_share = 3
"""
raw = \'\'\'
[[orchestration.variants]]
say "]"
\'\'\'
[orchestration]
many = [
  { name = "a" },  # ]

  { name = "b" }, """
two lines""",
  [ 1,
    2 ],
]
[[orchestration.variants]]
name = "a"
[orchestration.variants.limits]
deep = true
  [[ orchestration . variants ]]  # spaces
"name" = "b"
[[orchestration.variants]]
limits.deep = false
[policy]
min_share = 0.05
'''


def test_each_key_of_awkward_toml_has_its_line() -> None:
    assert key_lines(AWKWARD) == {
        ("title",): 2,
        ("owner",): 3,
        ("owner", "name"): 3,
        ("owner", "name", "first.last"): 3,
        ("owner", "name", "first.last", "x"): 3,
        ("owner", "name", "first.last", "y"): 3,
        ("owner", "name", "first.last", "y", "z"): 3,
        ("text",): 4,
        ("raw",): 8,
        ("orchestration",): 12,
        ("orchestration", "many"): 13,
        ("orchestration", "many", 0): 14,
        ("orchestration", "many", 0, "name"): 14,
        ("orchestration", "many", 1): 16,
        ("orchestration", "many", 1, "name"): 16,
        ("orchestration", "many", 2): 16,
        ("orchestration", "many", 3): 18,
        ("orchestration", "many", 3, 0): 18,
        ("orchestration", "many", 3, 1): 19,
        ("orchestration", "variants", 0): 21,
        ("orchestration", "variants", 0, "name"): 22,
        ("orchestration", "variants", 0, "limits"): 23,
        ("orchestration", "variants", 0, "limits", "deep"): 24,
        ("orchestration", "variants", 1): 25,
        ("orchestration", "variants", 1, "name"): 26,
        ("orchestration", "variants", 2): 27,
        ("orchestration", "variants", 2, "limits"): 28,
        ("orchestration", "variants", 2, "limits", "deep"): 28,
        ("policy",): 29,
        ("policy", "min_share"): 30,
    }


def test_every_key_is_found_with_unix_and_windows_line_endings() -> None:
    def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {path} | {found for key, inner in items for found in paths(inner, (*path, key))}

    found = key_lines(AWKWARD.replace("\n", "\r\n"))
    assert found == key_lines(AWKWARD)
    assert paths(tomllib.loads(AWKWARD)) - set(found) == {(), ("orchestration", "variants")}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a = 1\nb = """\nc\n', 2),
        ("a = 1\n\nb = [\n1,\n\n# x\n", 3),
        ("[a]\nb = 1\nc =", 3),
        ("[a]\nb = = 1\nc = 2", 2),
    ],
)
def test_line_of_a_syntax_error_is_that_of_the_unfinished_statement(text: str, line: int) -> None:
    assert line_of_syntax_error(text) == line


def test_a_long_statement_has_the_line_of_each_element() -> None:
    lines = key_lines("x = 1\nmany = [\n" + "1,\n" * 60 + "{ a = 1 } ]\n[policy]\n")
    assert (lines["many", 0], lines["many", 59], lines["many", 60, "a"], lines["policy",]) == (3, 62, 63, 64)


@pytest.mark.parametrize(
    "text",
    [
        'a = "\\""\nb = 1',
        "a = '\\'\nb = 1",
        'a = """x\\"""y\n"""\nb = 1',
        'a = """x"""""\nb = 1',
        "a = '''x''''\nb = 1",
        'a = "" # "\nb = 1',
        'a = "#"\nb = 1',
        "a = [ # ]\n]\nb = 1",
        "a = [[1], {b = ']'}]\nb = 1",
    ],
)
def test_statements_end_as_in_toml(text: str) -> None:
    assert tomllib.loads(text)["b"] == 1
    assert key_lines(text)["b",] == text.count("\n") + 1
