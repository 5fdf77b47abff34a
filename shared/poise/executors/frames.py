"""Frames: the protocol between a pool and its processes: pickled values over pipes, each with an eight-byte length."""

import pickle
import sys
from io import BytesIO
from typing import Any, BinaryIO, Final

LENGTH_BYTES: Final = 8
"""Bytes of the length prefix, big-endian."""

MAIN: Final = "__main__"
CHILD_MAIN: Final = "__poise_main__"
"""Name of the parent's main module in the child, so that `if __name__ == "__main__"` does not run again."""

DONE: Final = b"="
FAILED: Final = b"!"


def encode_frame(content: bytes) -> bytes:
    """Return the content with its length prefix."""
    return len(content).to_bytes(LENGTH_BYTES) + content


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame's content; None when the stream has ended."""
    length = stream.read(LENGTH_BYTES)
    content = stream.read(int.from_bytes(length)) if len(length) == LENGTH_BYTES else b""
    return content if len(length) == LENGTH_BYTES and len(content) == int.from_bytes(length) else None


class _ChildUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(MAIN if module == CHILD_MAIN else module, name)


def unpickle_from_child(content: bytes) -> Any:
    """Unpickle a value from a child process, which is trusted: it runs our code."""
    return _ChildUnpickler(BytesIO(content)).load()


def main_module() -> tuple[str, str] | None:
    """Return how a child finds the parent's main module: `("path", …)` or `("name", …)`; None if it has no file."""
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "name", spec.name
    path = getattr(main, "__file__", None)
    return None if path is None else ("path", path)


def in_child() -> bool:
    """Return whether this process belongs to a pool: it loads the function's module and must not serve its tier."""
    main = sys.modules[MAIN]
    return main.__name__ == CHILD_MAIN or getattr(main.__spec__, "name", None) == "poise.executors.child"
