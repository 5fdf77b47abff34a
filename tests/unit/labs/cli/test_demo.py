from pathlib import Path

import pytest

from poise.cli.app import COMMANDS
from poise_labs.cli.demo import NEXT, LapTimer, command_name, next_steps
from poise_labs.cli.sample_corpus import EXAMPLE_QUESTIONS, corpus


def test_the_corpus_is_the_language_reference() -> None:
    documents = corpus()
    assert len(documents) >= 70
    assert documents["python/pass"].source == "Python language reference: pass"
    assert all(id_.startswith("python/") and document.text.strip() for id_, document in documents.items())


def test_demo_asks_three_different_questions() -> None:
    assert len(set(EXAMPLE_QUESTIONS)) == 3


def test_the_time_to_the_first_answer_is_the_sum_of_its_parts() -> None:
    times = LapTimer(parts={"start": 4.0, "ingest": 11.0, "ask": 1.5})
    assert times.summary().plain == "First answer after 16.5 s = start 4 s + ingest 11 s + ask 1.5 s"


def test_lap_starts_at_the_end_of_the_previous_lap() -> None:
    times = LapTimer()
    laps = [times.lap("start"), times.lap("ingest")]
    assert list(times.parts.values()) == laps
    assert all(lap >= 0 for lap in laps)


def test_next_steps_name_the_command_as_it_is_called() -> None:
    assert "(poise is .venv/bin/poise here)" in next_steps(".venv/bin/poise").plain
    assert "here)" not in next_steps("poise").plain


def test_every_command_of_the_next_steps_exists() -> None:
    assert {example.split()[1] for example, _ in NEXT} <= COMMANDS.keys()


def test_command_name_is_callable_from_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv/bin/poise")])
    assert command_name() == ".venv/bin/poise"
    (tmp_path / "poise").touch(mode=0o755)
    assert command_name() == "poise"
