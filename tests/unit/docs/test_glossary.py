"""docs/GLOSSARY.md is alphabetical, defines each term once and names its module."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
][1:]
DESIGN_TERMS = {
    "tier",
    "worker",
    "call",
    "fault",
    "run",
    "correlation id",
    "step",
    "lane",
    "deadline",
    "dead letter",
    "variant",
    "policy",
    "rung",
    "ladder",
    "deployment",
    "check",
    "tenant",
    "epoch",
    "range",
}


def test_terms_are_unique_and_in_alphabetical_order() -> None:
    terms = [term for term, _, _ in ROWS]
    assert terms == sorted(set(terms), key=str.lower)


def test_each_term_has_a_meaning_of_at_most_two_sentences_and_a_module() -> None:
    for term, meaning, where in ROWS:
        assert meaning.endswith("."), term
        assert len(re.findall(r"\.(?: [A-Z]|$)", meaning)) <= 2, term
        paths = re.findall(r"`([^`]+)`", where)
        assert paths, term
        assert all((ROOT / path).exists() for path in paths), term


def test_the_terms_of_the_design_are_defined() -> None:
    assert {term for term, _, _ in ROWS} >= DESIGN_TERMS
