"""The orchestration worker."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.executors.limited import LimitedExecutor
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.orchestration import run_record
from poise_services.orchestration.active_policy import follow_policy
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.document_versions import follow_versions
from poise_services.orchestration.draw_secret import load_secret
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings


async def main() -> None:
    """Answer asks until stopped by a signal."""
    mesh_settings, settings = MeshSettings.load(), OrchestrationSettings.load()
    async with (
        WorkerRuntime(mesh_settings, tier="orchestration") as runtime,
        follow_versions(runtime, settings) as versions,
        follow_policy(runtime, settings, load_secret(settings, mesh_settings)) as policy_follower,
        LimitedExecutor() as executor,
    ):
        with Breakers(settings.variants) as breakers:
            ask_handlers = handlers(
                settings,
                runtime,
                breakers=breakers,
                versions=versions,
                policy_follower=policy_follower,
                executor=executor,
            )
            await runtime.serve(Tier("orchestration", ask_handlers, on_fault=run_record.publish_fault))


if __name__ == "__main__":
    run(main)
