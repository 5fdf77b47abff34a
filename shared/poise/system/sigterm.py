"""SIGTERM during the start of a process: the first import of each entry point, before slow imports.

By default, SIGTERM ends a process. The kernel does not deliver it to process 1 of a container without a handler: that
process would start, serve, and be killed after the grace period. So this module installs a handler that exits, until
the event loop installs its own (`worker/process.py`). Nothing has been started before, so there is nothing to stop.
"""

import os
import signal
from types import FrameType
from typing import Final

EXIT_CODE: Final = 128 + signal.SIGTERM
"""The exit code of a process that was stopped before it had started."""


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)


signal.signal(signal.SIGTERM, _exit)
