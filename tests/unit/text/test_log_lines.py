"""Untrusted text neither begins a line of a log nor controls the terminal that shows it."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.stack.process import ChildProcess
from poise.text.log_lines import INDENT, LineFormatter, escape_control

HOSTILE = "key \x1b[2J\x1b]0;title\x07\r\n2026-11-30 12:00:00 INFO poise forged \x9b31m \u202e \u2028end"
FORMAT = LineFormatter("%(levelname)s %(message)s")


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("poise", logging.WARNING, __file__, 1, message, args, told)


def test_log_record_is_one_line() -> None:
    line = FORMAT.format(record("%s is no key: %r", HOSTILE, HOSTILE))
    assert line.isprintable()
    assert line.startswith(
        "WARNING key \\x1b[2J\\x1b]0;title\\x07\\r\\n2026-11-30 12:00:00 INFO poise forged \\x9b31m \\u202e"
    )


def fails(message: str) -> None:
    raise ValueError(message)


def test_traceback_lines_are_indented() -> None:
    with pytest.raises(ValueError, match="forged") as caught:
        fails(HOSTILE)
    first, *more = FORMAT.format(record("it failed", error=caught.value)).split("\n")
    assert first == "WARNING it failed"
    assert len(more) > 3
    assert all(line.startswith(INDENT) and line.isprintable() for line in more)


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Lu"])))
def test_escape_control_removes_control_characters(text: str) -> None:
    said = escape_control(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in said)
    assert said.splitlines() in ([said], [])
    said.encode()


def test_process_logs_and_exit_message_are_escaped() -> None:
    program = (
        "import logging, sys\n"
        "from poise.errors import MissingTopicError, SetupError\n"
        "from poise import run\n"
        "async def main():\n"
        "    logging.getLogger('x').warning(sys.argv[1])\n"
        "    raise {'setup': SetupError, 'topic': MissingTopicError, 'bug': ValueError}[sys.argv[2]](sys.argv[1])\n"
        "run(main)\n"
    )
    for end in ("setup", "topic", "bug"):
        command = [sys.executable, "-c", program, HOSTILE, end]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        lines = ended.stderr.rstrip("\n").split("\n")
        assert all(line.isprintable() for line in lines)
        assert any("Traceback" in line for line in lines) == (end == "bug")
        assert not [line for line in lines if line.startswith("2026-11-30 12:00:00 INFO poise forged")]
        assert lines[0].endswith("poise forged \\x9b31m \\u202e \\u2028end")


async def test_displayed_log_lines_are_escaped(tmp_path: Path) -> None:
    child = ChildProcess("x", [sys.executable, "-c", f"print({HOSTILE!r})"], log=tmp_path / "x.log")
    await child.start()
    await asyncio.wait_for(child.wait(), 30)
    assert child.tail()
    assert all(line.isprintable() for line in child.tail())
