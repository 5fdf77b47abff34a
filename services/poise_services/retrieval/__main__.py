"""The retrieval worker."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.executors.limited import LimitedExecutor
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.retrieval.embedding import MiniLm
from poise_services.retrieval.handlers import handlers
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.settings import RetrievalSettings


async def main() -> None:
    """Publish documents as passages and search them until asked to stop."""
    settings, runtime = RetrievalSettings.load(), WorkerRuntime(MeshSettings.load(), tier="retrieval")
    async with (
        MiniLm(
            embedding_threads=settings.embedding_threads, file=settings.embedding_model_file, liveness=runtime.liveness
        ) as embedder,
        runtime,
        LiveIndex(runtime, settings, embedder.model) as live_index,
        LimitedExecutor() as executor,
    ):
        await runtime.liveness.watch_while(embedder.wait_load_attempted())
        await runtime.serve(Tier("retrieval", handlers(settings, embedder, live_index, executor)))


if __name__ == "__main__":
    run(main)
