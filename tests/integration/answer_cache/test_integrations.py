"""Answers with integrations are not stored, because replies of integrations have no version."""

from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from cache_kit import CorpusClient, FirstSentenceModel, orchestrating, retrieving
from integration_kit import serving

from poise.contracts import Fetch, Fetched, Generate
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.integration.api_errors import EmptyResponseError
from poise_services.orchestration.settings import OrchestrationSettings

pytestmark = pytest.mark.integration


async def test_an_answer_with_integrations_is_not_stored(mesh_settings: MeshSettings) -> None:
    model, said = FirstSentenceModel(), list[str]()

    async def fetch(request: Fetch, _: Context) -> Fetched:
        if not said:
            raise EmptyResponseError("integration almanac answered 200 with nothing in it")
        return Fetched(integration=request.integration, text=said[0], source="The almanac")

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(retrieving(mesh_settings))
        for tier in (Tier("inference", {Generate: model.write}), Tier("integration", {Fetch: fetch})):
            await stack.enter_async_context(serving(mesh_settings, tier))
        own = OrchestrationSettings(top_k=1, integrations=("almanac",))
        await stack.enter_async_context(orchestrating(mesh_settings, own))
        client = CorpusClient(await stack.enter_async_context(WorkerRuntime(mesh_settings, tier="client")))
        name = f"lamp-{uuid4().hex[:8]}"
        epoch = await client.put(name, "The lamp of Harrow Point burns whale oil.")

        question = "What does the lamp of Harrow Point burn?"
        for _ in range(2):
            answer = await client.ask(question, min_epoch=epoch)
            assert (answer.text, answer.rung) == ("The lamp of Harrow Point burns whale oil.", "primary")
            assert answer.degraded == ("integration almanac answered 200 with nothing in it",)
            assert not answer.cached
        said.append("The lamp of Harrow Point burns colza oil today.")
        answer = await client.ask(question, min_epoch=epoch)
        assert answer.degraded == ()
        assert not answer.cached
    assert len(model.prompts) == 3
