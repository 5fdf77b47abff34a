"""HTTP proxy in front of a model server that removes the passages from a share of the prompts."""

import asyncio
import json
import random
import re
from collections import Counter
from typing import Any, Final, Self
from urllib.parse import urlsplit

from poise.stack import probe

WITH_PASSAGES: Final = " Answer with words from the text above, in one sentence."
"""The instruction at the end of the answer workflow's prompt."""
WITHOUT_PASSAGES: Final = " Answer in one sentence."

_CHUNK: Final = 65_536
_LENGTH: Final = re.compile(rb"(?<=content-length: )\d+", re.IGNORECASE)
_CONNECTION: Final = re.compile(rb"\r\n(?:connection|keep-alive):[^\r]*", re.IGNORECASE)
_HOST: Final = re.compile(rb"(?<=\r\nhost: )[^\r]*", re.IGNORECASE)


class ModelProxy:
    """Forwards requests to a model server; `async with ModelProxy("http://127.0.0.1:8081/v1") as proxy: proxy.url`.

    Whether a prompt loses its passages depends on the seed, the prompt, and how often it was sent before, so every
    run affects the same requests.

    Args:
        upstream: The model server's base address; `/v1` is part of it.
        seed: The seed of the draws.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._fault_share = 0.0
        self._upstream = urlsplit(upstream)
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, probe.LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.close()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The base address for clients: the upstream's, on the proxy's port."""
        if self._server is None:
            raise RuntimeError("the model proxy is not running")
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{probe.LOOPBACK}:{port}{self._upstream.path}"

    def set_fault(self, share: float) -> None:
        """Set the share of prompts that lose their passages from now on, 0 to 1."""
        self._fault_share = share

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one request, then close the connection: clients open another one for the next request."""
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length.group())) if length else b""
            await self._forward(head, self._apply_fault(body), reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # one side closed its connection; `finally` closes the other
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _forward(
        self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        tls = self._upstream.scheme == "https"
        port = self._upstream.port or (443 if tls else 80)
        source, target = await asyncio.open_connection(self._upstream.hostname, port, ssl=tls or None)
        head = _CONNECTION.sub(b"", _LENGTH.sub(str(len(body)).encode(), head))
        head = _HOST.sub(self._upstream.netloc.encode(), head)
        target.write(head.removesuffix(b"\r\n") + b"connection: close\r\n\r\n" + body)
        responding = asyncio.create_task(_pipe(source, writer))
        disconnecting = asyncio.create_task(reader.read(1))  # a client that closes its connection cancels its request
        try:
            await asyncio.wait({responding, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            target.close()
            responding.cancel()
            disconnecting.cancel()
            await asyncio.gather(responding, disconnecting, return_exceptions=True)

    def _apply_fault(self, body: bytes) -> bytes:
        """Return the request's body, without the passages if its draw is below the fault share."""
        chat: dict[str, Any] = json.loads(body) if body else {}
        if not chat.get("messages"):
            return body
        prompt = str(chat["messages"][-1]["content"])
        self._asked[prompt] += 1
        draw = random.Random(f"{self._seed} {self._asked[prompt]} {prompt}").random()  # noqa: S311 - not for security
        if draw >= self._fault_share:
            return body
        chat["messages"][-1]["content"] = without_passages(prompt)
        return json.dumps(chat).encode()


def without_passages(prompt: str) -> str:
    """Return a prompt of the answer workflow without its passages."""
    _, _, question = prompt.rpartition("\n\n")
    return question.replace(WITH_PASSAGES, WITHOUT_PASSAGES)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy a response chunk by chunk, so that streamed text arrives as it is generated."""
    while chunk := await source.read(_CHUNK):
        target.write(chunk)
        await target.drain()
