"""The integration worker."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import Mesh, Tier, run
from poise.settings import MeshSettings
from services.integration.apis import Apis
from services.integration.handlers import handlers
from services.integration.last_good import LastGood
from services.integration.settings import IntegrationSettings


async def main() -> None:
    """Answer `Fetch` until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), IntegrationSettings.load()
    async with Mesh(mesh_settings, tier="integration") as mesh, Apis(settings) as apis:
        await mesh.serve(Tier("integration", handlers(apis, LastGood(mesh.cache))))


if __name__ == "__main__":
    run(main)
