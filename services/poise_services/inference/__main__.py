"""The inference worker."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.inference.backends import Backends
from poise_services.inference.handlers import handlers
from poise_services.inference.settings import InferenceSettings


async def main() -> None:
    """Answer `Generate` until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), InferenceSettings.load()
    async with WorkerRuntime(mesh_settings, tier="inference") as runtime, Backends(settings) as backends:
        await runtime.serve(Tier("inference", handlers=handlers(backends)))


if __name__ == "__main__":
    run(main)
