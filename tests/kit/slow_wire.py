"""Slow wire: a way to a server on loopback that takes its time, or is cut."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from poise.stack import probe


class SlowWire:
    """Hands on to a port what is sent to it, each piece after `delay()` seconds: `async with SlowWire(port) as wire`.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self.delay: Callable[[], float] = lambda: 0.0
        """Seconds that the next piece takes on its way to the server."""
        self.sent: list[bytes] = []
        """What was sent to the server, whether it has come there or not."""
        self.broken = False
        """Whether nobody comes through any more: see `cut`."""
        self._to = port
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, probe.LOOPBACK, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def address(self) -> str:
        """The server's address by this way, `host:port`."""
        return f"{probe.LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        """The server's address by this way, as Redis clients write it."""
        return f"redis://{self.address}/0"

    def cut(self) -> None:
        """Close every connection, and each new one, while `broken`."""
        self.broken = True
        for task in self._open:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.broken:
            writer.close()
            return
        task = asyncio.create_task(self._join(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(probe.LOOPBACK, self._to)
        except OSError:  # as the server would: nobody is there
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._there(reader, back))
                group.create_task(_pump(there, writer))
        finally:
            back.close()
            writer.close()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def sent(piece: bytes) -> None:
            self.sent.append(piece)
            await asyncio.sleep(self.delay())

        await _pump(reader, writer, sent)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before: Callable[[bytes], Awaitable[None]] | None = None
) -> None:
    try:
        while piece := await reader.read(65_536):
            if before is not None:
                await before(piece)
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass  # one of the two is gone, and so is the other in a moment
    finally:
        writer.close()
