"""Two processes with one instance name: the one that Kafka fences reports it and ends."""

import asyncio
from typing import ClassVar
from uuid import uuid4

import pytest
from integration_kit import WITHIN, serving, until

from poise.contracts import Message
from poise.contracts.message import Request
from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


class Named(Message):
    kind: ClassVar[str] = "named/1"

    by: str


class WhichWorker(Request[Named]):
    kind: ClassVar[str] = "who/1"
    reply: ClassVar[type[Named]] = Named
    tier: ClassVar[str] = f"named-{uuid4().hex[:8]}"


def worker(name: str) -> Tier:
    async def name_worker(_: WhichWorker, __: Context) -> Named:
        return Named(by=name)

    return Tier(WhichWorker.tier, {WhichWorker: name_worker})


async def ended(mesh: WorkerRuntime, tier: Tier) -> str:
    """Return the error with which a process ends."""
    with pytest.raises(SetupError) as raised:
        await mesh.serve(tier)
    return str(raised.value)


async def test_the_second_process_of_a_name_fences_the_first_which_ends_with_the_reason(
    mesh_settings: MeshSettings,
) -> None:
    name = f"twin-{uuid4().hex[:8]}"
    twin = mesh_settings.model_copy(update={"instance": name})
    async with WorkerRuntime(twin, tier=WhichWorker.tier) as first:
        ending = asyncio.create_task(ended(first, worker("first")))
        await until(lambda: all(first.readiness().values()))
        async with WorkerRuntime(mesh_settings, tier="client") as client:
            assert (await client.rpc.call(WhichWorker())).by == "first"
            async with serving(twin, worker("second")):
                said = await asyncio.wait_for(ending, WITHIN)
                assert [(await client.rpc.call(WhichWorker())).by for _ in range(12)] == ["second"] * 12
    assert f"another process also has the name {name}: set POISE_INSTANCE to a unique name" in said
    assert "\n" not in said
