import subprocess
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from poise.cli.app import COMMANDS, app

RUNNER = CliRunner()

LOADED = """
import contextlib, sys
sys.argv[1:] = {arguments!r}
with contextlib.suppress(SystemExit):
    from poise.cli.app import main
    main()
print(*(name for name in {names!r} if name in sys.modules), file=sys.stderr)
"""
HEAVY = ("aiokafka", "faststream", "pydantic", "redis", "opentelemetry", "numpy", "onnxruntime", "fastapi")


def loaded(*arguments: str) -> list[str]:
    """Return the heavy libraries that a command loads in a new process."""
    code = LOADED.format(arguments=list(arguments), names=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()


def test_help_loads_no_heavy_library() -> None:
    assert loaded("--help") == []


def test_version_loads_no_heavy_library() -> None:
    assert not set(loaded("version")) - {"pydantic"}  # Typer parses arguments with it


def test_ask_loads_no_library_of_a_tier() -> None:
    assert not {"numpy", "onnxruntime", "fastapi"} & set(loaded("ask", "--help"))


def test_import_poise_loads_no_heavy_library() -> None:
    code = f"import sys, poise; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_the_table_exists_and_has_a_help_text(name: str) -> None:
    module, _, attribute = COMMANDS[name][2].partition(":")
    assert hasattr(import_module(module), attribute)
    shown = RUNNER.invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage" in shown.output


def test_the_help_lists_each_command() -> None:
    shown = RUNNER.invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert all(f"{name} " in shown.output for name in COMMANDS)


def test_mistyped_command_is_corrected_by_a_suggestion() -> None:
    shown = RUNNER.invoke(app, ["aks"])
    assert shown.exit_code == 2
    assert "'ask'" in shown.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["ask", "x", "--broker", ":::"], 1, "no address of a broker"),
        (["ingest", "/no/such/place"], 1, "nothing to ingest"),
        (["dlq", "redrive"], 2, "--older-than, … or --all"),
        (["ask", "x", "--broker", "127.0.0.1:1"], 1, "no Kafka broker answers at 127.0.0.1:1"),
        (["topics", "check", "--broker", "127.0.0.1:1"], 1, "no Kafka broker answers at 127.0.0.1:1"),
    ],
)
def test_errors_are_one_line_on_stderr(arguments: list[str], code: int, said: str) -> None:
    shown = RUNNER.invoke(app, arguments)
    assert shown.exit_code == code
    assert shown.stdout == ""
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("poise: ")


def test_bug_is_shown_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("poise.cli.version.version", broken)
    assert isinstance(RUNNER.invoke(app, ["version"]).exception, ZeroDivisionError)


def test_interrupted_command_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("poise.cli.version.version", interrupted)
    shown = RUNNER.invoke(app, ["version"])
    assert shown.exit_code == 130
    assert shown.output == ""
