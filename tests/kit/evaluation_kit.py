"""The evaluation tier, for tests that serve it in this process."""

from poise.worker.connection import MeshConnection
from poise.worker.tier import Tier
from poise_services.evaluation.embedding_scorer import EmbeddingScorer
from poise_services.evaluation.handlers import handlers
from poise_services.evaluation.records import Records


def evaluation_tier(mesh: MeshConnection, vectors: EmbeddingScorer | None = None) -> Tier:
    """Return the tier for a worker with this connection."""
    return Tier("evaluation", handlers(Records(mesh.logs, mesh.settings.clock_skew), vectors))
