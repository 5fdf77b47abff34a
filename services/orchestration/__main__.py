"""The orchestration worker."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import Mesh, Tier, run
from poise.offload import LimitedExecutor
from poise.settings import MeshSettings
from services.orchestration.asks import record_fault
from services.orchestration.breakers import Breakers
from services.orchestration.draw_secret import secret_of
from services.orchestration.handlers import handlers
from services.orchestration.policies import following_policies
from services.orchestration.settings import OrchestrationSettings
from services.orchestration.versions import following


async def main() -> None:
    """Answer asks until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), OrchestrationSettings.load()
    async with (
        Mesh(mesh_settings, tier="orchestration") as mesh,
        following(mesh, settings) as versions,
        following_policies(mesh, settings, secret_of(settings, mesh_settings)) as policies,
        LimitedExecutor() as executor,
    ):
        with Breakers(settings.variants) as breakers:
            answering = handlers(
                settings, mesh, breakers=breakers, versions=versions, policies=policies, executor=executor
            )
            await mesh.serve(Tier("orchestration", answering, on_fault=record_fault))


if __name__ == "__main__":
    run(main)
