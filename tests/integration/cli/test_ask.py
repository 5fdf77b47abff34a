import asyncio
import contextlib
import os
import signal
import sys
import termios
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from integration_kit import Command
from small_mesh import answering

from poise.contracts import Answer
from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def received_questions(kafka: str) -> AsyncIterator[asyncio.Queue[str]]:
    async with answering(MeshSettings(broker=kafka)) as questions:
        yield questions


async def test_a_question_is_answered(poise: Command) -> None:
    shown = await poise("ask", "what", "now?")
    assert shown.exit_code == 0
    assert "you asked: what now?" in shown.stdout
    assert "1 A book" in shown.stdout
    assert "primary · small · " in shown.stdout
    assert "83 min" not in shown.stdout  # the time in the reply; the command shows the time it waited
    assert "poise trace " in shown.stdout


async def test_with_json_stdout_has_only_the_answer(poise: Command) -> None:
    shown = await poise("ask", "--json", "--conversation", "c", "--min-epoch", "e1.t", "--timeout", "20", "what now?")
    answer = Answer.parse(shown.stdout, strict=True)
    assert (answer.text, answer.epoch) == ("you asked: what now?", "e1.t")
    assert shown.stdout.count("\n") == 1


async def test_a_question_is_read_from_stdin(poise: Command) -> None:
    shown = await poise("ask", "-", "--json", stdin="from\nstdin\n")
    assert Answer.parse(shown.stdout).text == "you asked: from\nstdin"


@pytest.mark.parametrize(
    ("question", "code", "message"),
    [
        ("refuse", 2, "poise: Invalid message: question: nobody answers that\n"),
        ("fail", 1, "poise: Failed: the handler was asked to fail\n"),
        ("", 2, "poise: the question is empty: pass one as an argument\n"),
        ("x" * 8_001, 2, "poise: question: String should have at most 8000 characters\n"),
    ],
    ids=["refused", "failed", "empty", "too long"],
)
async def test_a_fault_is_one_line(poise: Command, question: str, code: int, message: str) -> None:
    shown = await poise("ask", question)
    assert (shown.exit_code, shown.stdout) == (code, "")
    assert shown.stderr.endswith(message)
    assert len(shown.stderr.strip().splitlines()) <= 2  # without a terminal, "asking …" stays


async def test_stdin_that_is_not_utf8_is_refused(poise: Command) -> None:
    shown = await poise("ask", "-", stdin=b"caf\xe9")
    assert shown.exit_code == 2
    assert "not UTF-8 (byte 3)" in shown.stderr


async def test_an_ask_ends_at_its_timeout(poise: Command) -> None:
    shown = await poise("ask", "sleep", "--timeout", "0.5")
    assert shown.exit_code == 1
    assert "0.5 s" in shown.stderr or "deadline" in shown.stderr


async def on_a_terminal(kafka: str, *arguments: str) -> str:
    """Return what `poise ask` writes if stdout is a terminal."""
    terminal, its = os.openpty()
    termios.tcsetwinsize(its, (24, 90))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "poise", "ask", *arguments, "--broker", kafka),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(its)

    def read() -> bytes:
        written = b""
        with contextlib.suppress(OSError):  # Linux raises it if the other end is closed
            while chunk := os.read(terminal, 65_536):
                written += chunk
        os.close(terminal)
        return written

    async with asyncio.timeout(30):
        written, (_, err) = await asyncio.gather(asyncio.to_thread(read), process.communicate())
    assert (process.returncode, err) == (0, b"")
    return written.decode()


async def test_a_terminal_shows_the_text_as_it_is_written_and_then_the_answer(kafka: str) -> None:
    shown = await on_a_terminal(kafka, "stream")
    streamed, _, answer = shown.rpartition("\x1b[?25h")  # the cursor is back: the streamed text is erased
    assert "reset: " in streamed
    assert "not grounded" in streamed
    assert "\x1b[2myou asked: stream" in streamed  # dim: provisional
    assert "\x1b[1myou asked: stream" in answer  # bold: the answer
    assert "reset: " not in answer


@pytest.mark.parametrize("option", ["--no-stream", "--json"])
async def test_text_is_not_streamed_with_no_stream_or_json(kafka: str, option: str) -> None:
    shown = await on_a_terminal(kafka, "stream", option)
    assert "reset: " not in shown
    assert shown.count("you asked: stream") == 1


async def test_ctrl_c_ends_the_command_without_output(kafka: str, received_questions: asyncio.Queue[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "poise", "ask", "sleep", "--timeout", "5", "--broker", kafka),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        while not received_questions.empty():
            received_questions.get_nowait()
        assert await received_questions.get() == "sleep"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")
