from pathlib import Path

import pytest

from poise.cli.app import COMMANDS
from poise_labs.cli.demo import NEXT, LapTimer, command_name, next_steps
from poise_labs.cli.sample_corpus import QUESTIONS, corpus


def test_the_corpus_is_the_language_reference() -> None:
    documents = corpus()
    assert len(documents) >= 70
    assert documents["python/pass"].source == "Python language reference: pass"
    assert all(id_.startswith("python/") and document.text.strip() for id_, document in documents.items())


def test_three_questions_are_asked() -> None:
    assert len(set(QUESTIONS)) == 3


def test_the_time_to_the_first_answer_is_the_sum_of_its_parts() -> None:
    times = LapTimer(parts={"start": 4.0, "ingest": 11.0, "ask": 1.5})
    assert times.summary().plain == "First answer after 16.5 s = start 4 s + ingest 11 s + ask 1.5 s"


def test_a_lap_begins_where_the_last_ended() -> None:
    times = LapTimer()
    laps = [times.lap("start"), times.lap("ingest")]
    assert list(times.parts.values()) == laps
    assert all(lap >= 0 for lap in laps)


def test_what_to_try_next_says_how_the_command_is_called() -> None:
    assert "(poise is .venv/bin/poise here)" in next_steps(".venv/bin/poise").plain
    assert "here)" not in next_steps("poise").plain


def test_every_command_to_try_next_exists() -> None:
    assert {example.split()[1] for example, _ in NEXT} <= COMMANDS.keys()


def test_the_command_is_named_so_that_it_can_be_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv/bin/poise")])
    assert command_name() == ".venv/bin/poise"
    (tmp_path / "poise").touch(mode=0o755)
    assert command_name() == "poise"
