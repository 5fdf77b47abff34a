"""The fake third-party HTTP API used by the drill."""

import asyncio
import json
from typing import Final, Self

from poise.stack import probe

NOTICE: Final = "The reference is read by many people every day."


class FakeApi:
    """Answers every request with 200 and its notices; `async with FakeApi() as api: api.url`."""

    def __init__(self) -> None:
        self.empty = False
        """Answer 200 with empty notices."""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, probe.LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Its address."""
        if self._server is None:
            raise RuntimeError("the fake API is not running")
        return f"http://{probe.LOOPBACK}:{self._server.sockets[0].getsockname()[1]}/notices?about={{question}}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps({"notices": "" if self.empty else NOTICE}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client closed the connection
        finally:
            writer.close()
