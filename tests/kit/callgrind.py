"""Counts the instructions of a call with valgrind's callgrind, including those of the regex engine and of other C code.

A process under callgrind requests a count by a sequence of instructions that has no effect elsewhere ("client
requests", valgrind.h), so no compiler is needed. Code before the first request is not counted, and runs faster.
"""

import ctypes
import gc
import mmap
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

COMMAND: Final = (shutil.which("valgrind") or "valgrind", "--tool=callgrind", "--instr-atstart=no", "-q")
_SEQUENCES: Final = {
    "x86_64": bytes.fromhex(
        "4889f8"  # mov rax, rdi: the request
        "31d2"  # xor edx, edx: the result outside callgrind
        "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61 and 51: two full rotations
        "4887db"  # xchg rbx, rbx
        "4889d0 c3"  # mov rax, rdx; ret
    )
}
"""By machine: a function in the C calling convention that takes the address of six numbers and returns one."""
_TOOL: Final = ord("C") << 24 | ord("T") << 16
_DUMP, _ZERO, _START = (_TOOL + number for number in (0, 1, 4))
_LAST_LINES: Final = 40
"""Bytes at the end of a dump that include its total."""
_Request = ctypes.c_uint64 * 6


def supported() -> bool:
    """Return whether instructions can be counted on this machine."""
    return platform.machine() in _SEQUENCES


class Counter:
    """Counts instructions; must be created in a process that runs under callgrind.

    Args:
        folder: The folder of `--callgrind-out-file`, where counts are written.
    """

    def __init__(self, folder: Path) -> None:
        self._counts = folder / f"counts.{os.getpid()}"
        self._dumps = 0
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_SEQUENCES[platform.machine()])
        at = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.POINTER(_Request))(at)
        gc.collect()
        gc.freeze()
        gc.disable()  # it would run in one call and not in another
        self._request(_START)

    def of(self, function: Callable[[str], object], text: str, errors: Iterable[type[Exception]]) -> int:
        """Return the instructions of one call; an error of the given types counts as a result."""
        expected = tuple(errors)
        self._request(_ZERO)
        try:
            function(text)
        except expected:
            pass
        finally:
            self._request(_DUMP)
        gc.collect()
        return self._read()

    def _request(self, code: int) -> None:
        self._call(ctypes.byref(_Request(code)))

    def _read(self) -> int:
        self._dumps += 1
        dump = self._counts.with_name(f"{self._counts.name}.{self._dumps}")
        with dump.open("rb") as file:
            file.seek(-_LAST_LINES, os.SEEK_END)
            last = file.read()
        dump.unlink()
        return int(last.rpartition(b"totals: ")[2])


def command(folder: Path, *arguments: str) -> list[str]:
    """Return the command that runs Python under callgrind."""
    return [*COMMAND, f"--callgrind-out-file={folder}/counts.%p", sys.executable, *arguments]
