"""No page, docstring, comment or message uses a phrase that `tests/kit/plain_language.py` bans."""

import itertools
from pathlib import Path

import pytest
from plain_language import CODE, ROOT, banned_in_code, banned_in_page, python_files

DATA = {
    ("services/poise_services/retrieval/sparse.py", "shall"),  # a stop word
    ("shared/poise/policy/snapshot_keys.py", "told"),  # a name in stored snapshots
    ("shared/poise/scoring/tokenization.py", "shall"),  # a stop word
}
"""Words that a module has as data."""
LISTS = {ROOT / "tests" / "kit" / "plain_language.py", Path(__file__)}
"""Files that name the banned turns."""


def name_of(path: Path) -> str:
    """Return a path relative to the root."""
    return path.relative_to(ROOT).as_posix()


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("services/**/*.md")]
MODULES = [path for path in python_files(*CODE) if path not in LISTS]


@pytest.mark.parametrize("page", sorted(PAGES), ids=name_of)
def test_a_page_uses_no_banned_turn(page: Path) -> None:
    assert [str(finding) for finding in banned_in_page(page)] == []


def test_no_module_uses_a_banned_turn() -> None:
    findings = itertools.chain.from_iterable(map(banned_in_code, MODULES))
    assert [str(finding) for finding in findings if (name_of(finding.path), finding.found) not in DATA] == []


SAMPLE = '''"""Whoever calls
it is told."""
# It goes on
# without it.
x = f"{1} bears"  # `anew` is code
'''


def test_banned_turns_are_found_in_docstrings_comments_and_strings(tmp_path: Path) -> None:
    module = tmp_path / "sample.py"
    module.write_text(SAMPLE, encoding="utf-8")
    found = [(finding.line, finding.found) for finding in banned_in_code(module)]
    assert sorted(found) == [(1, "Whoever"), (2, "told"), (3, "goes on without"), (5, "bears")]
