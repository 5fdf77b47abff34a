"""Real HTTP servers that answer as a test says, and note what they were asked."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HANG = b"hang"
"""In the place of an answer: none comes until the client goes."""


@dataclass
class ScriptedServer:
    """A server: its answers go out in turn, over all connections; the last one again and again."""

    answers: list[bytes]
    url: str = ""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Request line, headers in lower case, body."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has gone while its request hung."""

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, _, headers = head.partition("\r\n")
                length = re.search(r"content-length: (\d+)", headers.lower())
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append((line, headers.lower(), body))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is HANG:
                    await reader.read()
                    self.disconnected.set()
                    return
                writer.write(answer)
                await writer.drain()
                if not answer.startswith(b"HTTP/"):
                    return  # it hangs up
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()


def http_response(status: str, body: bytes, *headers: str) -> bytes:
    """An HTTP response."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted_server(*answers: bytes) -> AsyncIterator[ScriptedServer]:
    """A server on loopback."""
    made = ScriptedServer(list(answers))
    server = await asyncio.start_server(made.handle_connection, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
