"""The retrieval worker."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import Mesh, Tier, run
from poise.offload import LimitedExecutor
from poise.settings import MeshSettings
from services.retrieval.corpus import Corpus
from services.retrieval.embedding import MiniLm
from services.retrieval.handlers import handlers
from services.retrieval.settings import RetrievalSettings


async def main() -> None:
    """Publish documents as passages and search them until asked to stop."""
    settings, mesh = RetrievalSettings.load(), Mesh(MeshSettings.load(), tier="retrieval")
    async with (
        MiniLm(
            documents_at_once=settings.documents_at_once, file=settings.model_file, liveness=mesh.liveness
        ) as embedder,
        mesh,
        Corpus(mesh, settings, embedder.model) as corpus,
        LimitedExecutor() as executor,
    ):
        await mesh.liveness.attend(embedder.tried())
        await mesh.serve(Tier("retrieval", handlers(settings, embedder, corpus, executor)))


if __name__ == "__main__":
    run(main)
