"""Parser of server-sent events."""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""A carriage return at the end of a chunk may be the first half of CRLF: the next chunk decides."""
_DATA: Final = b"data"


class EventParser:
    """Reads `text/event-stream` (WHATWG HTML, 9.2.6); pure.

    Comments, fields other than `data`, and a leading byte order mark are ignored.
    """

    def __init__(self) -> None:
        self._begun = False
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Add bytes, and yield the data of each event that they complete."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return  # avoids searching a long line again for each chunk
        *lines, rest = _LINE_END.split(bytes(self._rest))
        self._rest = bytearray(rest)
        for line in lines:
            yield from self._take(line)

    def close(self) -> Iterator[bytes]:
        """End the stream, and yield an event without its final blank line, which some servers omit."""
        yield from self._take(bytes(self._rest).removesuffix(b"\r"))
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if not self._begun:
            self._begun, line = True, line.removeprefix(BOM_UTF8)
        if not line:
            if self._data:
                yield b"\n".join(self._data)
            self._data = []
            return
        name, _, value = line.partition(b":")
        if name == _DATA:
            self._data.append(value.removeprefix(b" "))
