"""The steps of docs/WALKTHROUGH.md are numbered and name few files; the traced ask is in `tests/e2e`."""

import re

from walkthrough import STEPS, references

MAX_FILES = 30


def test_steps_name_at_most_thirty_files_and_state_their_number() -> None:
    files = {reference.module for reference in references(STEPS)}
    said = re.search(r"These steps name (\d+) files", STEPS)
    assert said is not None
    assert int(said[1]) == len(files) <= MAX_FILES


def test_the_steps_are_numbered_from_one() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", STEPS, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


def test_each_step_names_a_function() -> None:
    for step in re.split(r"^\d+\. ", STEPS, flags=re.MULTILINE)[1:]:
        named = references(step.split("\n\n", 1)[0])
        assert named, step
        assert all(reference.function for reference in named), step
