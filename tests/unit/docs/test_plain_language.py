"""No page, docstring, comment or message uses a banned turn of `tests/kit/plain_language.py`."""

import itertools
from pathlib import Path

import pytest
from plain_language import CODE, ROOT, banned_in_code, banned_in_page, python_files

NOT_YET = ("shared", "services", "labs", "tests")
"""Folders and files that are not rewritten yet."""
PAGES_NOT_YET = (
    "docs/WALKTHROUGH.md",
    "services",
)
"""Pages, and folders with pages, that are not rewritten yet."""
LISTS = {ROOT / "tests" / "kit" / "plain_language.py"}
"""Files that name the banned turns."""


def in_scope(path: Path, not_yet: tuple[str, ...]) -> bool:
    """Return whether a file is rewritten already."""
    return path not in LISTS and not any(path.is_relative_to(ROOT / folder) for folder in not_yet)


PAGES = [
    path
    for path in [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted(ROOT.glob("services/**/*.md")),
    ]
    if in_scope(path, PAGES_NOT_YET)
]
MODULES = [path for path in python_files(*CODE) if in_scope(path, NOT_YET)]


def name_of(path: Path) -> str:
    """Return a path as a test id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_uses_no_banned_turn(page: Path) -> None:
    assert [str(finding) for finding in banned_in_page(page)] == []


def test_no_module_uses_a_banned_turn() -> None:
    findings = itertools.chain.from_iterable(map(banned_in_code, MODULES))
    assert [str(finding) for finding in findings] == []


def test_exceptions_exist() -> None:
    assert [name for name in (*NOT_YET, *PAGES_NOT_YET) if not (ROOT / name).exists()] == []


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
