"""Records which functions of Poise a process calls, phase by phase; Python imports this before anything else.

It does so only if `CALL_TRACE` names a folder. SIGUSR1 begins the next phase. SIGUSR2 writes the phases to `<pid>.json`
in the folder: a list of lists of `[module, function, seconds]`, each function with the time of its first call in the
phase. The clock is the same for all processes of a machine.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDER = os.environ.get("CALL_TRACE")
ROOT = Path(__file__).resolve().parents[3]
IMPORT_ROOTS = (ROOT / "shared", ROOT / "services")


def _start(folder: Path) -> None:
    phases: list[dict[CodeType, float]] = [{}]

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            phases[-1].setdefault(frame.f_code, time.monotonic())

    def next_phase(_: int, __: FrameType | None) -> None:
        phases.append({})
        (folder / f"{os.getpid()}.{len(phases) - 1}").touch()

    def write(_: int, __: FrameType | None) -> None:
        found = [
            [[*call, at] for code, at in tuple(phase.items()) if (call := _call(code)) is not None] for phase in phases
        ]
        (folder / "writing").mkdir(exist_ok=True)
        written = folder / "writing" / f"{os.getpid()}.json"
        written.write_text(json.dumps(found), encoding="utf-8")
        written.replace(folder / written.name)

    signal.signal(signal.SIGUSR1, next_phase)
    signal.signal(signal.SIGUSR2, write)
    threading.setprofile(profile)
    sys.setprofile(profile)


def _call(code: CodeType) -> tuple[str, str] | None:
    """Return the module, as a path from its import root, and the function."""
    file = Path(code.co_filename)
    for root in IMPORT_ROOTS:
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix(), code.co_qualname
    return None


if FOLDER is not None and any(word.startswith("poise_services.") for word in sys.orig_argv):
    _start(Path(FOLDER))
