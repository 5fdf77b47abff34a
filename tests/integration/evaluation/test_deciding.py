"""Deciding on a real Kafka: one consistent policy, whoever decides, however often that changes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from deciding_kit import STEPS, WITHIN, Case, worker
from integration_kit import Outsider, another

from poise.contracts.policy import Policy
from poise.contracts.topics import COMMANDS, POLICY, SCORES
from poise.messaging import Mesh
from poise.settings import MeshSettings

pytestmark = pytest.mark.integration


@pytest.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[Mesh]:
    """A process that decides nothing: it asks, scores and reads."""
    async with Mesh(another(mesh_settings), tier="cli") as mesh:
        yield mesh


async def test_what_a_person_sets_is_in_force_and_a_bad_variant_loses_its_share(
    mesh_settings: MeshSettings, mesh: Mesh
) -> None:
    case = Case(mesh)
    async with worker(mesh_settings):
        id_ = await case.ask("set", spec=case.spec())
        (set_,) = await case.until_decided(1)
        assert (set_.command, set_.acted) == (id_, True)
        await case.answers(60)
        made = await case.until_decided(1 + STEPS)
        decisions = await case.check()

    assert decisions == made
    assert [made.action for made in decisions] == ["set", *["shift"] * (STEPS - 1), "roll back"]
    assert decisions[-1].after == pytest.approx({"steady": 0.95, "cheap": 0.05})
