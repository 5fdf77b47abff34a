"""The tier behind a real Kafka: a request becomes a completion or a typed fault, and cancelling reaches the server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

import pytest
from integration_kit import serving

from poise.contracts import ChatMessage, Generate
from poise.errors import DeadlineExceededError, FaultError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.inference.backends import Backends
from poise_services.inference.handlers import handlers
from poise_services.inference.settings import InferenceSettings

pytestmark = pytest.mark.integration

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Script], AbstractAsyncContextManager[str]]
ASKED = Generate(messages=(ChatMessage(role="user", content="Say yes."),), max_tokens=4)


@asynccontextmanager
async def inference(settings: MeshSettings, url: str, **backend: str) -> AsyncIterator[WorkerRuntime]:
    backends = InferenceSettings.model_validate({"backends": {"default": {"url": url, "model": "m", **backend}}})
    async with Backends(backends) as opened, serving(settings, Tier("inference", handlers(opened))) as mesh:
        yield mesh


def scripted(*answers: bytes) -> Script:
    """Return a script that sends the given responses in order, over all connections."""
    left = list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
            writer.write(left.pop(0))
            await writer.drain()

    return script


def response(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


OK = response("200 OK", b'{"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}')


async def test_a_real_model_answers_over_kafka(mesh_settings: MeshSettings, model: dict[str, str]) -> None:
    async with inference(mesh_settings, **model) as mesh:
        completion = await mesh.rpc.call(ASKED, CallOptions(run=str(uuid4()), step="generate"))
    assert completion.usage.completion_tokens > 0
    assert completion.backend == "default"


async def test_a_transient_failure_is_retried(mesh_settings: MeshSettings, serve: Serve) -> None:
    script = scripted(response("503 Busy", b""), response("200 OK", b"{}"), OK)
    async with serve(script) as url, inference(mesh_settings, url) as mesh:
        completion = await mesh.rpc.call(ASKED, CallOptions(run=str(uuid4()), step="generate"))
    assert completion.text == "Yes."


async def test_an_error_response_is_a_fault_with_the_servers_message(mesh_settings: MeshSettings, serve: Serve) -> None:
    script = scripted(response("400 No", b'{"error": {"message": "no such model"}}'))
    async with serve(script) as url, inference(mesh_settings, url) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(ASKED, CallOptions(run=str(uuid4()), step="generate"))
    assert caught.value.fault().detail == "backend default answered 400: no such model"
    assert not caught.value.fault().retryable


SLOW = b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\nretry-after-ms: 40\r\n\r\n"


async def test_a_rate_limit_is_retried_beyond_the_usual_number_of_attempts(
    mesh_settings: MeshSettings, serve: Serve
) -> None:
    async with serve(scripted(*[SLOW] * 7, OK)) as url, inference(mesh_settings, url) as mesh:
        completion = await mesh.rpc.call(ASKED, CallOptions(run=str(uuid4()), step="generate"))
    assert completion.text == "Yes."


async def test_a_caller_without_max_wait_gets_the_rate_limit_at_once_and_nothing_is_stored(
    mesh_settings: MeshSettings, serve: Serve
) -> None:
    run, hasty = str(uuid4()), ASKED.model_copy(update={"patience": 0.0})
    async with serve(scripted(SLOW, OK)) as url, inference(mesh_settings, url) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(hasty, CallOptions(run=run, step="generate"))
        fault = caught.value.fault()
        assert (fault.type, fault.status, fault.retry_after) == ("urn:poise:rate-limited", 429, 0.04)
        dead_letters = await mesh.logs.read_topic("poise.inference.dead")
        assert not [entry for entry in dead_letters if entry.header("poise-run") == run]
        # The fault is not stored as the step's result: a retry executes the step.
        assert (await mesh.rpc.call(hasty, CallOptions(run=run, step="generate"))).text == "Yes."


@pytest.mark.parametrize(
    ("code", "name"), [("content_filter", "content-filtered"), ("context_length_exceeded", "context-too-long")]
)
async def test_a_terminal_error_is_not_retried_and_leaves_no_dead_letter(
    mesh_settings: MeshSettings, serve: Serve, code: str, name: str
) -> None:
    run, refused = str(uuid4()), response("400 No", json.dumps({"error": {"message": "no", "code": code}}).encode())
    async with serve(scripted(refused, OK)) as url, inference(mesh_settings, url) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(ASKED, CallOptions(run=run, step="generate"))
        dead_letters = await mesh.logs.read_topic("poise.inference.dead")
    assert (caught.value.fault().type, caught.value.fault().retryable) == (f"urn:poise:{name}", False)
    assert not [entry for entry in dead_letters if entry.header("poise-run") == run]


async def test_at_the_deadline_the_request_to_the_model_is_closed(mesh_settings: MeshSettings, serve: Serve) -> None:
    closed = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        closed.set()

    async with serve(hang) as url, inference(mesh_settings, url) as mesh:
        with pytest.raises((DeadlineExceededError, FaultError)):
            await mesh.rpc.call(ASKED, CallOptions(run=str(uuid4()), step="generate", deadline=time.time() + 0.5))
        await asyncio.wait_for(closed.wait(), 10)
