"""A fake model server: returns the text of the prompt after a fixed time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class EchoModelServer:
    """An OpenAI-compatible server on loopback.

    Args:
        takes: Seconds from a request to its response.
    """

    takes: float
    asked: int = 0
    """Number of requested completions."""
    url: str = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line)
                length = int(lines.get("content-length", 0))
                if not length:  # a readiness probe
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                body = json.loads(await reader.readexactly(length))
                self.asked += 1
                await asyncio.sleep(self.takes)
                writer.write(_response(body["messages"][-1]["content"]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()


def _response(prompt: str) -> bytes:
    said = " ".join(prompt.partition("\n\n")[0].split())
    message = {"role": "assistant", "content": said}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = json.dumps({"id": "1", "object": "chat.completion", "model": "stand-in", "choices": [choice]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def echo_model_server(takes: float) -> AsyncIterator[EchoModelServer]:
    """Run the server during the block."""
    model = EchoModelServer(takes)
    server = await asyncio.start_server(model.connected, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield model
    finally:
        server.close()
