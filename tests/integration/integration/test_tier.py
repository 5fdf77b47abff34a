"""The tier on a real Kafka and a real Valkey: a response, a typed fault, or the last good response, marked as stale."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from http_kit import http_response, scripted_server
from integration_kit import serving

from poise.contracts import Fetch, Fetched
from poise.contracts.topics import dead_letter_topic_name
from poise.errors import FaultError
from poise.redis.client import RedisClient
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.handlers import handlers
from poise_services.integration.settings import IntegrationSettings
from poise_services.integration.stale_if_error import StaleIfErrorCache

pytestmark = pytest.mark.integration

OK = http_response("200 OK", b'{"text": "It rains."}')
EMPTY = http_response("200 OK", b"{}")


@asynccontextmanager
async def integration(settings: MeshSettings, url: str, **more: Any) -> AsyncIterator[WorkerRuntime]:
    api = {"url": f"{url}/?q={{question}}", "pointer": "/text", "source": "The weather office", **more}
    given = IntegrationSettings.model_validate({"integrations": {"weather": api}})
    async with AsyncExitStack() as stack:
        apis = await stack.enter_async_context(ApiClients(given))
        cache = await stack.enter_async_context(RedisClient(settings.redis_url))
        yield await stack.enter_async_context(
            serving(settings, Tier("integration", handlers(apis, StaleIfErrorCache(cache))))
        )


async def fetch(
    mesh: WorkerRuntime, question: str = "Rain?", *, run: str | None = None, tenant: str = "acme"
) -> Fetched:
    request = Fetch(integration="weather", parameters={"question": question})
    return await mesh.rpc.call(request, CallOptions(run=run or str(uuid4()), step="fetch.weather", tenant=tenant))


async def dead_letter_errors(mesh: WorkerRuntime, run: str) -> list[str | None]:
    return [
        entry.header("poise-dead-error")
        for entry in await mesh.logs.read_topic(dead_letter_topic_name("integration"))
        if entry.header("poise-run") == run
    ]


async def test_a_response_is_returned_with_its_source(mesh_settings: MeshSettings) -> None:
    async with scripted_server(OK) as server, integration(mesh_settings, server.url) as mesh:
        assert await fetch(mesh) == Fetched(integration="weather", text="It rains.", source="The weather office")


@pytest.mark.parametrize(
    ("answer", "type_", "tries"),
    [
        (EMPTY, "integration-empty", 1),
        (http_response("404 No", b""), "failed", 1),
        (http_response("500 Oops", b""), "temporary", 4),
        (http_response("429 Slow", b"", "retry-after: 60"), "rate-limited", 1),
    ],
    ids=["empty", "404", "500", "429"],
)
async def test_a_failure_is_a_fault_for_the_caller_and_no_dead_letter(
    mesh_settings: MeshSettings, answer: bytes, type_: str, tries: int
) -> None:
    run = str(uuid4())
    async with scripted_server(answer) as server, integration(mesh_settings, server.url) as mesh:
        with pytest.raises(FaultError) as caught:
            await fetch(mesh, run=run)
        assert caught.value.fault().type == f"urn:poise:{type_}"
        assert len(server.requests) == tries
        assert await dead_letter_errors(mesh, run) == []


async def test_a_transient_failure_is_retried(mesh_settings: MeshSettings) -> None:
    async with (
        scripted_server(http_response("503 Busy", b""), OK) as server,
        integration(mesh_settings, server.url) as mesh,
    ):
        assert (await fetch(mesh)).age == 0
        assert len(server.requests) == 2


async def test_a_missing_parameter_is_named(mesh_settings: MeshSettings) -> None:
    async with scripted_server(OK) as server, integration(mesh_settings, server.url) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(Fetch(integration="weather"), CallOptions(run=str(uuid4()), step="fetch"))
        assert not server.requests
    fault = caught.value.fault()
    assert (fault.type, [error.field for error in fault.errors]) == ("urn:poise:invalid", ["parameters.question"])


@pytest.mark.parametrize(
    "answer", [EMPTY, http_response("500 Oops", b""), http_response("401 No", b"")], ids=["empty", "500", "401"]
)
async def test_the_last_good_response_replaces_a_failure_with_age_and_reason(
    mesh_settings: MeshSettings, answer: bytes
) -> None:
    tenant = uuid4().hex
    async with scripted_server(OK, answer) as server, integration(mesh_settings, server.url, stale_if_error=60) as mesh:
        assert (await fetch(mesh, tenant=tenant)).reason is None
        stale = await fetch(mesh, tenant=tenant)
        assert (stale.text, stale.source) == ("It rains.", "The weather office")
        assert 0 < stale.age < 60
        assert stale.reason is not None
        assert stale.reason.startswith("integration weather answered")
        assert len(server.requests) == 2  # without retries
        for other in ({"question": "Snow?"}, {"tenant": "another"}):
            with pytest.raises(FaultError):
                await fetch(mesh, **({"tenant": tenant} | other))


async def test_without_stale_if_error_there_is_no_fallback(mesh_settings: MeshSettings) -> None:
    async with scripted_server(OK, EMPTY) as server, integration(mesh_settings, server.url) as mesh:
        await fetch(mesh)
        with pytest.raises(FaultError, match="answered 200 with nothing in it"):
            await fetch(mesh)


async def test_without_redis_it_still_answers(mesh_settings: MeshSettings) -> None:
    settings = mesh_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with scripted_server(OK, EMPTY) as server, integration(settings, server.url, stale_if_error=60) as mesh:
        assert (await fetch(mesh)).text == "It rains."
        with pytest.raises(FaultError, match="answered 200 with nothing in it"):
            await fetch(mesh)
