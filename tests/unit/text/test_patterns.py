"""No regular expression of Poise takes more than linear time, whatever the text."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest
from backtracking import Mode, slow_on
from source_tree import source_files

ROOT: Final = Path(__file__).parents[3]
USES: Final[Mapping[str, Mode]] = {
    "match": "match",
    "fullmatch": "fullmatch",
    **dict.fromkeys(("search", "sub", "subn", "split", "findall", "finditer"), "search"),
}
MAY_BE_SLOW: Final[Mapping[str, str]] = {}
"""By module and name, why a pattern that looks slow is not: on what it is used, and how long that may be."""


@dataclass(frozen=True)
class PatternUse:
    """A pattern and how it is used."""

    where: str
    pattern: str | bytes
    flags: int
    mode: Mode


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of the library's and the tiers' modules by name."""
    return {name: ast.parse(file.read_text()) for name, file in source_files() if not name.endswith("__main__")}


@cache
def methods() -> dict[tuple[str, str], set[str]]:
    """Return the methods called on each pattern, by module and name; public patterns are listed under no module."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in USES:
                name = ast.unparse(node.value).rpartition(".")[2]
                found[module if name.startswith("_") else "", name].add(node.attr)
    return found


@pytest.mark.parametrize("name", trees())
def test_patterns_are_literals_passed_to_re(name: str) -> None:
    for node in ast.walk(trees()[name]):
        assert not (isinstance(node, ast.ImportFrom) and node.module in {"re", "regex"}), "write `import re`"
        for alias in node.names if isinstance(node, ast.Import) else ():
            assert alias.name != "regex", "write `import re`"
            assert alias.name != "re" or alias.asname is None, "write `import re`"


def uses() -> Iterator[PatternUse]:
    """Yield each pattern once for each way in which it is used."""
    for module, tree in trees().items():
        names = {id(node.value): node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)}
        names |= {id(node.value): node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")):
                continue
            called = ast.unparse(node.func).removeprefix("re.")
            if called in USES:
                yield PatternUse(f"{module}:{node.lineno}", evaluated(module, node.args[0]), 0, USES[called])
            elif called == "compile":
                target = names.get(id(node))
                assert isinstance(target, ast.Name), f"{module}:{node.lineno}: give the pattern a name in its module"
                flags = int(evaluated(module, node.args[1])) if len(node.args) > 1 else 0
                used = methods()[module if target.id.startswith("_") else "", target.id] or {"search"}
                for mode in {USES[method] for method in used}:
                    yield PatternUse(f"{module}:{target.id}", evaluated(module, node.args[0]), flags, mode)
            else:
                assert called in {"escape", "DOTALL", "IGNORECASE", "MULTILINE"}, f"{module}:{node.lineno}: {called}"


def evaluated(module: str, expression: ast.expr) -> str | bytes:
    """Evaluate the expression of a pattern with the constants of its module."""
    return eval(ast.unparse(expression), dict(vars(import_module(module))))  # type: ignore[no-any-return]  # noqa: S307


@pytest.mark.parametrize("use", list(uses()), ids=lambda use: f"{use.where} {use.mode}")
def test_pattern_takes_linear_time(use: PatternUse) -> None:
    text = slow_on(use.pattern, use.flags, use.mode)
    if use.where in MAY_BE_SLOW:
        assert text is not None, f"{use.where} is not slow: take it off the list"
    else:
        assert text is None, f"{use.pattern!r} ({use.mode}) takes more than linear time on {text!r} again and again"


def test_pydantic_patterns_use_the_engine_without_backtracking() -> None:
    """Check that no module configures Python's engine: pydantic's default is Rust's, whose time is linear."""
    assert not [name for name, tree in trees().items() if "regex_engine" in ast.unparse(tree)]


@pytest.mark.parametrize(
    ("pattern", "flags", "mode", "slow"),
    [
        (r"a*b", 0, "match", False),
        (r"a*b", 0, "search", True),
        (r"a*+b", 0, "search", True),  # the search tries each position
        (r"xa*b", 0, "search", False),
        (r"(?<!a)a*b", 0, "search", False),
        (r"(?<!x)a*b", 0, "search", True),
        (r"__\w+__", 0, "search", False),  # an inner start of a match also ends it
        (r"__\w+x", 0, "search", True),
        (r"(?:[0-9]{1,9}[smh])+", 0, "fullmatch", False),
        (r"([=-])\1{2,}\s*", 0, "fullmatch", False),
        (r"a*a*b", 0, "match", True),
        (r"a*+a*b", 0, "match", False),
        (r"a*$", 0, "match", False),
        (r"(a|a)*b", 0, "match", True),
        (r"(a*)*b", 0, "match", True),
        (r"(ab?)*c", 0, "match", False),
        (r"(.*x)*y", 0, "match", True),
        (r"\s+", 0, "search", False),  # it cannot fail
        (r"\s+$", 0, "search", True),
        (r"\d+(?:\.\d+)*", 0, "search", False),
        (r"x(?=x*y)", 0, "search", True),
        (r"x(?:.*y)?", 0, "search", True),
        (r"^ *x", re.MULTILINE, "search", False),
        (r"^\s*x", re.MULTILINE, "search", True),
        (rb"[^,]*+,?", 0, "search", False),
    ],
)
def test_slow_patterns_are_distinguished_from_linear_ones(
    pattern: str | bytes, flags: int, mode: Mode, slow: bool
) -> None:
    assert (slow_on(pattern, flags, mode) is not None) is slow
