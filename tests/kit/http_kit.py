"""Scripted HTTP servers on real connections, which record their requests."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HANG = b"hang"
"""Instead of a response: send nothing until the client disconnects."""


@dataclass
class ScriptedServer:
    """Sends its responses in order, over all connections, and repeats the last one."""

    responses: list[bytes]
    url: str = ""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Request line, headers in lower case, body."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client disconnects while its request hangs."""

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, _, headers = head.partition("\r\n")
                length = re.search(r"content-length: (\d+)", headers.lower())
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append((line, headers.lower(), body))
                response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
                if response is HANG:
                    await reader.read()
                    self.disconnected.set()
                    return
                writer.write(response)
                await writer.drain()
                if not response.startswith(b"HTTP/"):
                    return  # close the connection
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client disconnected
        finally:
            writer.close()


def http_response(status: str, body: bytes, *headers: str) -> bytes:
    """Return an HTTP response."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted_server(*responses: bytes) -> AsyncIterator[ScriptedServer]:
    """Start a server on loopback."""
    scripted = ScriptedServer(list(responses))
    server = await asyncio.start_server(scripted.handle_connection, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
