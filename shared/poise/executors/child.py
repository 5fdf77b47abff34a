"""One process of a pool, `python -m poise.executors.child`: applies one function to what comes, one by one.

It must not outlive its parent, however that ends: standard input is a pipe that the parent keeps open; when it closes,
the whole process group is killed, even if the function is at work or has started processes of its own.
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
    """Serve until the parent closes standard input or is gone."""
    inbox, outbox = _redirect_pipes()
    frames: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_frames, args=(inbox, frames), daemon=True).start()
    where, pickled = pickle.loads(frames.get())  # noqa: S301 - it comes from the process that started this one
    if where is not None:
        _load_main(*where)
    function: Callable[[Any], Any] = pickle.loads(pickled)[0]  # noqa: S301 - as above
    answer = DONE
    while True:  # the first answer says that it is ready
        outbox.write(encode_frame(answer))
        outbox.flush()
        answer = _apply(function, frames.get())


def _redirect_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, out of the function's way: what it prints goes where errors go, and it reads nothing."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return inbox, outbox


def _read_frames(inbox: BinaryIO, frames: "SimpleQueue[bytes]") -> None:
    while (content := read_frame(inbox)) is not None:
        frames.put(content)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _load_main(how: str, where: str) -> None:
    """Make the parent's main module known, under another name, so that it does not do what it does as the main one."""
    spec = spec_from_loader(CHILD_MAIN, SourceFileLoader(CHILD_MAIN, where)) if how == "path" else find_spec(where)
    assert isinstance(spec, ModuleSpec)  # noqa: S101 - for the type checker: the parent has loaded it
    assert isinstance(spec.loader, SourceFileLoader)  # noqa: S101
    module = ModuleType(CHILD_MAIN)
    module.__file__, module.__package__ = spec.origin, spec.parent if how == "name" else None
    sys.modules[MAIN] = sys.modules[CHILD_MAIN] = module
    code = spec.loader.get_code(spec.name)
    assert code is not None  # noqa: S101
    exec(code, module.__dict__)  # noqa: S102 - what the parent has run


def _apply(function: Callable[[Any], Any], content: bytes) -> bytes:
    try:
        return DONE + pickle.dumps(function(pickle.loads(content)))  # noqa: S301 - as above
    except BaseException as error:  # noqa: BLE001 - the parent raises it; `sys.exit()` too must be an answer
        told = traceback.format_exc()
        return FAILED + pickle.dumps((_picklable(error), told))


def _picklable(error: BaseException) -> Exception:
    """The error, or one that says the same where it cannot be pickled or would end more than its message's handling."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, to see that it can be read
        except Exception:  # noqa: BLE001 - whatever its class does when it is made again
            return RuntimeError(error_with_type(error))
        return error
    return RuntimeError(f"the function raised {error_with_type(error)}")


if __name__ == "__main__":
    main()
