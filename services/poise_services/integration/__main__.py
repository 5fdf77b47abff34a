"""The integration worker."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.handlers import handlers
from poise_services.integration.settings import IntegrationSettings
from poise_services.integration.stale_if_error import StaleIfErrorCache


async def main() -> None:
    """Answer `Fetch` until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), IntegrationSettings.load()
    async with WorkerRuntime(mesh_settings, tier="integration") as runtime, ApiClients(settings) as apis:
        await runtime.serve(Tier("integration", handlers(apis, StaleIfErrorCache(runtime.redis))))


if __name__ == "__main__":
    run(main)
