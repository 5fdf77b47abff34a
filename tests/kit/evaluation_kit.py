"""The evaluation tier, for tests that serve it in this process."""

from poise.run_log.lookup import RunLog
from poise.worker.connection import MeshConnection
from poise.worker.tier import Tier
from poise_services.evaluation.embedding_scorer import EmbeddingScorer
from poise_services.evaluation.handlers import handlers


def evaluation_tier(mesh: MeshConnection, vectors: EmbeddingScorer | None = None) -> Tier:
    """Return the tier for a worker with this connection."""
    return Tier("evaluation", handlers(RunLog(mesh.logs, mesh.settings.clock_skew), vectors))
