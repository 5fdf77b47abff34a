"""One process of a pool, `python -m poise.executors.child`: applies one function to each request it reads.

It must not outlive its parent, however that ends. Its standard input is a pipe that the parent keeps open; when it
closes, the whole process group is killed, even if the function is running or has started child processes.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_loader
from queue import SimpleQueue
from types import ModuleType
from typing import Any, BinaryIO

from poise.executors.frames import CHILD_MAIN, DONE, FAILED, MAIN, encode_frame, read_frame
from poise.text.error_text import error_with_type


def main() -> None:
    """Serve requests until the parent closes standard input or ends."""
    inbox, outbox = _redirect_pipes()
    frames: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_frames, args=(inbox, frames), daemon=True).start()
    location, pickled = pickle.loads(frames.get())  # noqa: S301 - it comes from the parent process
    if location is not None:
        _load_main(*location)
    function: Callable[[Any], Any] = pickle.loads(pickled)[0]  # noqa: S301 - as above
    response = DONE
    while True:  # the first frame reports that it is ready
        outbox.write(encode_frame(response))
        outbox.flush()
        response = _apply(function, frames.get())


def _redirect_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the parent, and redirect stdin from /dev/null and stdout to stderr for the function."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return inbox, outbox


def _read_frames(inbox: BinaryIO, frames: "SimpleQueue[bytes]") -> None:
    while (content := read_frame(inbox)) is not None:
        frames.put(content)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _load_main(kind: str, location: str) -> None:
    """Load the parent's main module under another name, so that its `__main__` block does not run."""
    spec = (
        spec_from_loader(CHILD_MAIN, SourceFileLoader(CHILD_MAIN, location)) if kind == "path" else find_spec(location)
    )
    assert isinstance(spec, ModuleSpec)  # noqa: S101 - for the type checker: the parent has loaded it
    assert isinstance(spec.loader, SourceFileLoader)  # noqa: S101
    module = ModuleType(CHILD_MAIN)
    module.__file__, module.__package__ = spec.origin, spec.parent if kind == "name" else None
    sys.modules[MAIN] = sys.modules[CHILD_MAIN] = module
    code = spec.loader.get_code(spec.name)
    assert code is not None  # noqa: S101
    exec(code, module.__dict__)  # noqa: S102 - the parent has executed it too


def _apply(function: Callable[[Any], Any], content: bytes) -> bytes:
    try:
        return DONE + pickle.dumps(function(pickle.loads(content)))  # noqa: S301 - as above
    except BaseException as error:  # noqa: BLE001 - the parent raises it; `sys.exit()` must be reported too
        traceback_text = traceback.format_exc()
        return FAILED + pickle.dumps((_picklable(error), traceback_text))


def _picklable(error: BaseException) -> Exception:
    """Return the error, or a RuntimeError with its text if it cannot be pickled or must not propagate."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, to check that it can be unpickled
        except Exception:  # noqa: BLE001 - its class may raise anything
            return RuntimeError(error_with_type(error))
        return error
    return RuntimeError(f"the function raised {error_with_type(error)}")


if __name__ == "__main__":
    main()
