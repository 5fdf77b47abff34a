"""The structure of the code: sizes of modules, and no retired names."""

import ast
import re
import statistics
from pathlib import Path
from typing import Final

import pytest
from source_tree import ROOT, source_files

MAX_LINES: Final = 400
MAX_MEDIAN: Final = 100
FILES: Final = dict(source_files())
RETIRED: Final = (Path(__file__).parent / "retired_names.txt").read_text(encoding="utf-8").split()
"""Names of modules, classes and functions of earlier versions, without English words."""
TEXTS: Final = [
    *FILES.values(),
    *(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "README.md",
    *(ROOT / "services").rglob("README.md"),
    *(path for path in (ROOT / "infra").rglob("*") if path.is_file()),
    *(ROOT / name for name in ("Makefile", "docker-compose.yml", "pyproject.toml")),
    *(path for folder in ("labs", "services", "shared", "tests") for path in (ROOT / folder).rglob("*.toml")),
]
"""CHANGELOG.md names what was renamed."""


def test_modules_are_small() -> None:
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}
    assert statistics.median(sizes.values()) <= MAX_MEDIAN


def test_the_list_of_retired_names_is_sorted() -> None:
    assert sorted(set(RETIRED)) == RETIRED


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_retired_name_is_used(path: Path) -> None:
    retired = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, RETIRED))})(?![\w-])")
    assert sorted(set(retired.findall(path.read_text(encoding="utf-8")))) == []


def test_type_checking_imports_hide_no_import_cycle() -> None:
    """Check that only heavy libraries, which a process may never need, and lazy names of `poise` are imported so."""
    hidden = {}
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and name != "poise":
                own = [
                    line.module
                    for line in node.body
                    if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("poise")
                ]
                if own and set(own) - {"poise.embedding", "poise.embedding.model", "poise.telemetry.spans"}:
                    hidden[name] = own
    assert hidden == {}
