"""The scripted backend: an OpenAI-compatible server that answers for every variant and records the ground truth."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from poise.stack import probe
from poise_labs.lab.behavior import ScriptedAnswer, scripted_answer, seeded_uniform
from poise_labs.lab.questions import LabQuestion
from poise_labs.lab.scenario import Behavior, Scenario

_DOWN: Final = "503 Service Unavailable"


@dataclass(frozen=True, slots=True)
class BackendOutcome:
    """The ground truth about one variant's answer to one ask, with which scores are compared."""

    answer: ScriptedAnswer | None
    """None = every request failed."""
    faults: int
    """The number of requests that failed because of the degradation."""


class ScriptedBackend:
    """Serves on loopback; `async with ScriptedBackend(…) as backend: backend.url_of("steady")`.

    Args:
        scenario: How each variant behaves.
        questions: The question of each ask, in order.
        seed: The seed of the answers.
    """

    def __init__(self, scenario: Scenario, questions: Sequence[LabQuestion], seed: int) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.prepare(scenario, questions, seed)

    def prepare(self, scenario: Scenario, questions: Sequence[LabQuestion], seed: int) -> None:
        """Reset the backend for another run."""
        self._scenario = scenario
        self._questions = questions
        self._numbers = {question.text: number for number, question in enumerate(questions)}
        self._seed = seed
        self._outcomes: dict[tuple[str, int], BackendOutcome] = {}
        self._began: float | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, probe.LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()

    def start_degradation(self) -> None:
        """Start the degradation: a flapping variant goes down and up from now on."""
        self._began = time.monotonic()

    def url_of(self, variant: str) -> str:
        """Return the base URL of a variant's model."""
        if self._server is None:
            raise RuntimeError("the scripted backend was not opened")
        return f"http://{probe.LOOPBACK}:{self._server.sockets[0].getsockname()[1]}/{variant}/v1"

    def outcome(self, variant: str, ask: int) -> BackendOutcome | None:
        """Return the outcome of a variant's answer to an ask; None = it was not asked."""
        return self._outcomes.get((variant, ask))

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                await self._answer(writer, head.split(" ", 2)[1].split("/")[1], body)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client closed the connection
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, variant: str, body: Mapping[str, Any]) -> None:
        number, prompt = self._read(body["messages"][-1]["content"])
        if number is None:  # not a question of the lab, such as the one that waits for the index
            self._write(writer, "200 OK", _completion(variant, prompt[0]))
            return
        usual, now = self._scenario.usual(variant), self._scenario.behavior(variant, number)
        if self._fails(variant, number, now):
            outcome = self._outcomes.get((variant, number)) or BackendOutcome(None, 0)
            harmed = not self._fails_by_chance(variant, number, usual)
            self._outcomes[variant, number] = BackendOutcome(outcome.answer, outcome.faults + harmed)
            self._write(writer, _DOWN, {"error": {"message": "the model is being loaded", "code": "unavailable"}})
            return
        answer = scripted_answer(
            self._questions[number], prompt, variant=variant, seed=self._seed, usual=usual, now=now
        )
        before = self._outcomes.get((variant, number))
        self._outcomes[variant, number] = BackendOutcome(answer, before.faults if before else 0)
        await asyncio.sleep(answer.seconds)
        if body.get("stream"):
            await self._stream(writer, variant, answer.text)
        else:
            self._write(writer, "200 OK", _completion(variant, answer.text))

    def _read(self, content: str) -> tuple[int | None, list[str]]:
        """Return the ask's number, None if it is not a question of the lab, and the sentences of the prompt."""
        text, _, asked = content.rpartition("\n\n")
        question = asked[: asked.index("?") + 1]
        return self._numbers.get(question), text.split("\n")

    def _fails(self, variant: str, number: int, now: Behavior) -> bool:
        if now.down and self._began is not None:
            return (time.monotonic() - self._began) % (now.down + now.up) < now.down
        return self._fails_by_chance(variant, number, now)

    def _fails_by_chance(self, variant: str, number: int, behavior: Behavior) -> bool:
        """Return whether an ask fails; its retries then fail too, so that they do not reduce the share."""
        return seeded_uniform(self._seed, variant, self._questions[number].text, "fault") < behavior.faults

    # -- responses ----------------------------------------------------------------------------------------------------

    def _write(self, writer: asyncio.StreamWriter, status: str, message: Mapping[str, Any]) -> None:
        body = json.dumps(message).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async def _stream(self, writer: asyncio.StreamWriter, variant: str, text: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for word in text.split(" "):
            writer.write(_chunk({"model": variant, "choices": [{"delta": {"content": f"{word} "}}]}))
            await writer.drain()
        writer.write(_chunk({"model": variant, "choices": [{"delta": {}, "finish_reason": "stop"}]}))
        done = b"data: [DONE]\n\n"
        writer.write(f"{len(done):x}\r\n".encode() + done + b"\r\n0\r\n\r\n")
        await writer.drain()


def _completion(variant: str, text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 80, "completion_tokens": len(text.split())}
    return {"object": "chat.completion", "model": variant, "choices": [choice], "usage": usage}


def _chunk(event: Mapping[str, Any]) -> bytes:
    data = f"data: {json.dumps(event)}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
