"""Parent death watch: kill a command when its parent process ends, on systems without a parent death signal.

`python -m poise.stack.parent_death_watch COMMAND …` runs the command and holds standard input, a pipe whose other end
the parent process keeps open and never writes to. When the parent ends for any reason, the pipe closes and the
command's process group is killed. SIGTERM, SIGINT and SIGHUP are forwarded to the command.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType


def main(command: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Its exit code; 128 + N if signal N ended it.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []
    """Signals before the command runs: without a handler they would end this process, but not the command."""

    def forward(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - it exists to run the given command
    for signal_number in early:
        child.send_signal(signal_number)
    threading.Thread(target=_watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
