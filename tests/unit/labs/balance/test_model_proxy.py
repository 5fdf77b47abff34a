"""The proxy forwards everything unchanged except the passages of the drawn share of prompts."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from poise.contracts import Passage
from poise.scoring import Evidence
from poise_labs.balance.model_proxy import ModelProxy, without_passages
from poise_services.orchestration.prompt import build_prompt

TEXT = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
EVIDENCE = Evidence((Passage(id="lamp#0", source="lamp", text=TEXT, score=1.0, age=1.0),))
EVENTS = b"data: one\n\n", b"data: two\n\n"


def chat(question: str) -> dict[str, Any]:
    """Return a request in the format of the inference tier."""
    messages = [message.model_dump() for message in build_prompt(question, EVIDENCE, 1, "")]
    return {"model": "small", "messages": messages}


class RecordingModelServer:
    """A model server that records each request and answers with an event stream."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.prompts: list[str] = []
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()
        self.answers = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        self.paths.append(lines[0].split()[1])
        self.headers.append(headers)
        body = await reader.readexactly(int(headers["content-length"]))
        self.prompts.append(json.loads(body)["messages"][-1]["content"])
        self.asked.set()
        if self.answers:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            writer.writelines(EVENTS)
        else:
            await reader.read(1)
            self.closed.set()
        writer.close()


@asynccontextmanager
async def proxied(*, seed: int = 0) -> AsyncIterator[tuple[RecordingModelServer, ModelProxy]]:
    """Run a model server and a proxy in front of it."""
    model = RecordingModelServer()
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, ModelProxy(f"http://{host}:{port}/poise/v1", seed=seed) as proxy:
        yield model, proxy


async def ask(proxy: ModelProxy, questions: Sequence[str]) -> None:
    async with httpx2.AsyncClient(trust_env=False, headers={"authorization": "Bearer key"}) as client:
        for question in questions:
            answer = await client.post(f"{proxy.url}/chat/completions", json=chat(question))
            assert answer.status_code == 200
            assert answer.content == b"".join(EVENTS)


async def test_a_request_is_forwarded_unchanged_without_a_fault() -> None:
    async with proxied() as (model, proxy):
        await ask(proxy, ["Who lit the lamp?"] * 2)
        host = f"127.0.0.1:{proxy._upstream.port}"
    assert model.paths == ["/poise/v1/chat/completions"] * 2
    assert model.prompts == [chat("Who lit the lamp?")["messages"][-1]["content"]] * 2
    assert {(headers["authorization"], headers["host"]) for headers in model.headers} == {("Bearer key", host)}


async def test_the_fault_removes_the_passages_from_a_share_of_the_prompts() -> None:
    questions = [f"Who lit lamp {number % 20}?" for number in range(200)]
    hit: list[list[bool]] = []
    for seed in (1, 1, 2):
        async with proxied(seed=seed) as (model, proxy):
            proxy.set_fault(0.7)
            await ask(proxy, questions)
            hit.append([TEXT not in prompt for prompt in model.prompts])
    assert 120 < sum(hit[0]) < 160
    assert hit[0] == hit[1], "a seed hits the same requests in every run"
    assert hit[0] != hit[2]
    assert len({hit[0][number] for number in range(0, 200, 20)}) == 2, "one question is not hit each time"


async def test_the_fault_ends_when_its_share_is_zero() -> None:
    async with proxied() as (model, proxy):
        proxy.set_fault(1.0)
        await ask(proxy, ["Who lit the lamp?"])
        proxy.set_fault(0.0)
        await ask(proxy, ["Who lit the lamp?"])
    assert [TEXT in prompt for prompt in model.prompts] == [False, True]


async def test_a_client_that_leaves_cancels_its_request_at_the_model_server() -> None:
    async with proxied() as (model, proxy):
        model.answers = False
        asking = asyncio.create_task(ask(proxy, ["Who lit the lamp?"]))
        await model.asked.wait()
        asking.cancel()
        await model.closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


def test_without_its_passages_a_prompt_is_the_question_alone() -> None:
    prompt = chat("Who lit the lamp?")["messages"][-1]["content"]
    assert TEXT in prompt
    assert without_passages(prompt) == "Who lit the lamp? Answer in one sentence."
