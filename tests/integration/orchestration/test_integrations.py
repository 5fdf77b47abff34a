"""An answer from an integration, through all tiers, and its replacement when the API returns nothing."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest
from http_kit import HANG, ScriptedServer, http_response, scripted_server
from integration_kit import serving

from poise.contracts import Answer, Ask, Completion, Generate, Passage, Passages, Retrieve
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import dead_letter_topic_name
from poise.redis.client import RedisClient
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.handlers import handlers as integration_handlers
from poise_services.integration.settings import IntegrationSettings
from poise_services.integration.stale_if_error import StaleIfErrorCache
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

pytestmark = pytest.mark.integration

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
ASK = Ask(question="Who lit the lamp of Harrow Point?")
PASSAGE = Passage(id="lamp#0", source="lamp", text="The lighthouse of Harrow Point has 112 steps.", score=1.0, age=1.0)
OK = http_response("200 OK", b'{"text": "' + SENTENCE.encode() + b'"}')


async def find(_: Retrieve, _context: Context) -> Passages:
    return Passages(passages=(PASSAGE,), epoch="e1.AAAA.0~1~1000")


async def write(request: Generate, _: Context) -> Completion:
    """Return the last sentence of the prompt."""
    text = request.messages[-1].content.partition("\n\n")[0].splitlines()[-1]
    return Completion(text=text, model="m", backend="default", finish_reason="stop")


@asynccontextmanager
async def running_mesh(settings: MeshSettings, server: ScriptedServer) -> AsyncIterator[WorkerRuntime]:
    almanac = {"url": f"{server.url}/?q={{question}}", "pointer": "/text", "source": "Almanac", "stale_if_error": 60}
    given = IntegrationSettings.model_validate({"integrations": {"almanac": almanac}})
    async with AsyncExitStack() as stack:
        apis = await stack.enter_async_context(ApiClients(given))
        cache = await stack.enter_async_context(RedisClient(settings.redis_url))
        for tier in (
            Tier("integration", integration_handlers(apis, StaleIfErrorCache(cache))),
            Tier("orchestration", handlers(OrchestrationSettings(integrations=("almanac",)))),
            Tier("retrieval", {Retrieve: find}),
            Tier("inference", {Generate: write}),
        ):
            await stack.enter_async_context(serving(settings, tier))
        yield await stack.enter_async_context(WorkerRuntime(settings, tier="client"))


async def ask(mesh: WorkerRuntime, within: float = 20.0, tenant: str = "acme") -> Answer:
    run = new_run_id(time.time(), Random())
    return await mesh.rpc.call(ASK, CallOptions(run=run, step="ask", tenant=tenant, deadline=time.time() + within))


async def test_a_reply_is_cited_and_an_empty_one_is_replaced_by_the_last_good_one(mesh_settings: MeshSettings) -> None:
    async with (
        scripted_server(OK, http_response("200 OK", b"{}")) as server,
        running_mesh(mesh_settings, server) as mesh,
    ):
        answer = await ask(mesh)
        assert (answer.text, answer.rung, answer.degraded) == (SENTENCE, "primary", ())
        assert [(c.source, c.passage) for c in answer.citations] == [("Almanac", "integration:almanac#0")]

        answer = await ask(mesh)
        assert (answer.text, answer.rung) == (SENTENCE, "primary")
        (note,) = answer.degraded
        assert re.fullmatch(
            r"integration almanac: its reply of \d+ s ago is used instead: "
            r"integration almanac answered 200 with nothing .*",
            note,
        )

        answer = await ask(mesh, tenant="another")
        assert answer.degraded == ("integration almanac answered 200 with nothing in it",)
        assert SENTENCE not in answer.text
        letters = await mesh.logs.read_topic(dead_letter_topic_name("integration"))
        assert answer.run_id not in {letter.header("poise-run") for letter in letters}


async def test_a_hanging_integration_leaves_time_to_answer(mesh_settings: MeshSettings) -> None:
    async with scripted_server(HANG) as server, running_mesh(mesh_settings, server) as mesh:
        answer = await ask(mesh, within=6)
        assert answer.retrieval == "hybrid"
        assert answer.rung != "canned"
        (note,) = answer.degraded
        assert note.startswith("integration almanac failed:")
