"""Scripted model servers on real connections, which count their requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


def completion(text: str) -> tuple[str, dict[str, object]]:
    """Return a completion response."""
    return "200 OK", {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def error_response(status: str, code: str) -> tuple[str, dict[str, object]]:
    """Return an error response in OpenAI's format."""
    return status, {"error": {"message": f"it says {code}", "code": code}}


@dataclass
class FakeModelServer:
    """A model server."""

    answer: tuple[str, dict[str, object]] | None
    """Status and body of the next responses; None = it hangs."""
    headers: tuple[str, ...] = ()
    request_count: int = 0
    """The number of requests so far."""
    url: str = ""
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeModelServer"]:
        """Serve on loopback."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in self._connections:
                writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                self.request_count += 1
                if self.answer is None:
                    await reader.read()  # until the client disconnects
                    return
                status, said = self.answer
                body = json.dumps(said).encode()
                lines = (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}")
                writer.write("\r\n".join((*lines, *self.headers)).encode() + b"\r\n\r\n" + body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client disconnected
        finally:
            self._connections.discard(writer)
            writer.close()
