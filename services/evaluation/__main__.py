"""The evaluation worker."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import Mesh, Tier, run
from poise.offload import LimitedExecutor
from poise.settings import MeshSettings
from services.evaluation.deciding import deciding
from services.evaluation.handlers import handlers
from services.evaluation.settings import EvaluationSettings
from services.evaluation.vectors import vectors_of


async def main() -> None:
    """Score finished runs, and decide over policies, until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), EvaluationSettings.load()
    async with (
        vectors_of(settings) as vectors,
        Mesh(mesh_settings, tier="evaluation") as mesh,
        deciding(mesh, settings),
        LimitedExecutor() as executor,
    ):
        await mesh.serve(Tier("evaluation", handlers(vectors, executor)))


if __name__ == "__main__":
    run(main)
