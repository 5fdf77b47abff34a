"""SIGTERM while a process starts: imported first by whatever is run, before what takes long to import.

A process that has not said what SIGTERM means to it is ended by it, but for process 1 of a container, for which the
kernel passes the signal over: it would start, serve, and be killed when its time is up. So from here on the signal ends
the process, until an event loop takes it over (`messaging/process.py`). Nothing is begun before, so nothing is to end.
"""

import os
import signal
from types import FrameType
from typing import Final

EXIT_CODE: Final = 128 + signal.SIGTERM
"""The exit code of a process that was asked to stop before it had started."""


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)


signal.signal(signal.SIGTERM, _exit)
