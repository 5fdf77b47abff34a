"""The gateway."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.ingestion.epoch_validator import EpochValidator
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.server import serve
from poise_services.gateway.settings import GatewaySettings


async def main() -> None:
    """Serve HTTP until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), GatewaySettings.load()
    async with WorkerRuntime(mesh_settings, tier="gateway") as runtime, EpochValidator(runtime.logs.access) as epochs:
        await serve(runtime, settings, epochs)


if __name__ == "__main__":
    run(main)
