"""A small audit of recorded answers: none that is older than a change of its documents is sent unmarked."""

import asyncio
import random

import pytest
from cache_kit import FirstSentenceModel, cached_mesh
from integration_kit import settings_for_another_process

from poise.client import Poise
from poise.settings import MeshSettings
from tests.benchmarks.cache.audit import Served
from tests.benchmarks.cache.replay import Corpus, read, zipf

pytestmark = pytest.mark.integration

KEEPERS = ("Ada Quill", "Bruno Falk", "Cora Lind", "Dora Moss")


def texts(name: str) -> dict[str, str]:
    return {f"{name}-{keeper.split()[0]}": f"The {keeper} lamp of {name} burns whale oil." for keeper in KEEPERS}


@pytest.mark.parametrize("stale_while_revalidate", [0.0, 60.0])
async def test_no_answer_older_than_a_change_is_sent_unmarked(
    mesh_settings: MeshSettings, name: str, stale_while_revalidate: float
) -> None:
    chance = random.Random(name)
    model = FirstSentenceModel()
    limits = {"stale_while_revalidate": stale_while_revalidate}
    async with (
        cached_mesh(mesh_settings, model, workers=2, **limits) as client,
        Poise(settings=settings_for_another_process(mesh_settings)) as poise,
    ):
        corpus = Corpus(poise, texts(name))
        client.documents |= corpus.texts.keys()
        await corpus.ingest_all()
        questions = [f"What does the {keeper} lamp of {name} burn?" for keeper in KEEPERS]
        changing = asyncio.create_task(corpus.change_at_random(chance, every=0.2))
        served: list[Served] = []
        while len(served) < 400 or corpus.changes <= len(KEEPERS) + 3:  # fast machines end 400 asks before many changes
            served += await read(poise, zipf(questions, 100, 1.1, chance), readers=8)
        changing.cancel()
        await asyncio.wait({changing})
    audit = corpus.audit.check(served)
    assert audit.violations == []
    assert audit.identified > 300
    assert sum(one.answer.cached for one in served) > 40
    assert len(model.prompts) < len(served)
