"""SlowProxy: a TCP proxy to a server on loopback that can delay or cut connections."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from poise.stack import probe


class SlowProxy:
    """Forwards to a port, each chunk after `delay()` seconds: `async with SlowProxy(port) as proxy`.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self.delay: Callable[[], float] = lambda: 0.0
        """Returns the delay of the next chunk to the server, in seconds."""
        self.sent: list[bytes] = []
        """The chunks sent to the server, delivered or not."""
        self.broken = False
        """Whether every connection is refused; see `cut`."""
        self._port = port
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
        """Return the proxy's address, `host:port`."""
        return f"{probe.LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        """Return the proxy's address as a Redis URL."""
        return f"redis://{self.address}/0"

    def cut(self) -> None:
        """Close every connection, and each new one while `broken`."""
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
            upstream, downstream = await asyncio.open_connection(probe.LOOPBACK, self._port)
        except OSError:  # like a server that does not run
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, downstream))
                group.create_task(_pump(upstream, writer))
        finally:
            downstream.close()
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def delay_chunk(chunk: bytes) -> None:
            self.sent.append(chunk)
            await asyncio.sleep(self.delay())

        await _pump(reader, writer, delay_chunk)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before: Callable[[bytes], Awaitable[None]] | None = None
) -> None:
    try:
        while chunk := await reader.read(65_536):
            if before is not None:
                await before(chunk)
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # one side is closed, and the other soon will be
    finally:
        writer.close()
