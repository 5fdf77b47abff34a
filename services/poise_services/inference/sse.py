"""Server-sent events: from the bytes of a response to the data of each event, however they were cut on the way."""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""A carriage return that is the last byte so far may be half of a line's end: the next chunk tells."""
_DATA: Final = b"data"


class EventParser:
    """Reads `text/event-stream` (WHATWG HTML, 9.2.6); pure.

    Comments, fields other than `data`, and a byte order mark at the beginning are passed over.
    """

    def __init__(self) -> None:
        self._begun = False
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take more bytes; gives the data of each event that they complete."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return  # so that a long line in many chunks is not searched again for each
        *lines, rest = _LINE_END.split(bytes(self._rest))
        self._rest = bytearray(rest)
        for line in lines:
            yield from self._take(line)

    def close(self) -> Iterator[bytes]:
        """The response is over: an event whose blank line is missing counts all the same, as servers leave it out."""
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
