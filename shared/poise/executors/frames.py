"""How a process of a pool is spoken to: frames of bytes over pipes, eight bytes of length before each."""

import pickle
import sys
from io import BytesIO
from typing import Any, BinaryIO, Final

LENGTH_BYTES: Final = 8
"""Bytes that say how many follow, most significant first."""

MAIN: Final = "__main__"
CHILD_MAIN: Final = "__poise_main__"
"""What the parent's main module is called in the child, so that `if __name__ == "__main__"` does not run again."""

DONE: Final = b"="
FAILED: Final = b"!"


def encode_frame(content: bytes) -> bytes:
    """Content with its length before it."""
    return len(content).to_bytes(LENGTH_BYTES) + content


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame's content; None when the stream has ended."""
    head = stream.read(LENGTH_BYTES)
    content = stream.read(int.from_bytes(head)) if len(head) == LENGTH_BYTES else b""
    return content if len(head) == LENGTH_BYTES and len(content) == int.from_bytes(head) else None


class _ChildUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(MAIN if module == CHILD_MAIN else module, name)


def unpickle_from_child(content: bytes) -> Any:
    """What a child has pickled; the child is ours, and runs what we told it to."""
    return _ChildUnpickler(BytesIO(content)).load()


def main_module() -> tuple[str, str] | None:
    """How a child finds the parent's main module: `("path", …)` or `("name", …)`; None if it has no file."""
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "name", spec.name
    path = getattr(main, "__file__", None)
    return None if path is None else ("path", path)


def in_child() -> bool:
    """Whether this process is one of a pool, which loads the function's module and must not serve its tier."""
    main = sys.modules[MAIN]
    return main.__name__ == CHILD_MAIN or getattr(main.__spec__, "name", None) == "poise.executors.child"
