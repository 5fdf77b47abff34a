"""A model server in a separate process that counts its requests: `python counting_model.py PORT`.

It answers chats as OpenAI's API does, after a delay, with the first line of the prompt. A request is identified by the
`QUESTION` in it. `GET /paid` returns how often each question was begun, and how often its answer was completed. A
request whose connection closes is abandoned, as model servers do.
"""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

TAKES: Final = (0.05, 0.15)
"""Minimum and maximum seconds of a completion."""
QUESTION: Final = re.compile(r"item-[a-z0-9-]+")

_HEAD: Final = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class RequestCounts:
    """Requests by the question in them."""

    begun: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)


async def serve(paid: RequestCounts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, one after another."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length.group(1))) if length else b""
            if head.startswith(b"GET /paid"):
                answer = json.dumps({"begun": paid.begun, "ended": paid.ended})
            else:
                answer = await complete(paid, reader, body)
            writer.write(_HEAD.format(len(answer.encode())).encode() + answer.encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client disconnected
    finally:
        writer.close()


async def complete(paid: RequestCounts, reader: asyncio.StreamReader, body: bytes) -> str:
    """Return a completion after a delay; raise an error if the client disconnects."""
    prompt = json.loads(body)["messages"][-1]["content"]
    found = QUESTION.search(prompt)
    question = found.group() if found else prompt
    paid.begun[question] += 1
    try:
        async with asyncio.timeout(random.uniform(*TAKES)):
            await reader.readexactly(1)
    except TimeoutError:
        paid.ended[question] += 1
    message = {"role": "assistant", "content": prompt.partition("\n")[0]}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return json.dumps({"model": "counting", "choices": [choice], "usage": usage})


async def main() -> None:
    """Serve until killed."""
    paid = RequestCounts()
    server = await asyncio.start_server(lambda r, w: serve(paid, r, w), "127.0.0.1", int(sys.argv[1]), backlog=1_000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
