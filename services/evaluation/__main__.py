"""The evaluation worker."""

from poise.messaging import Mesh, Tier, run
from poise.settings import MeshSettings
from services.evaluation.handlers import handlers


async def main() -> None:
    """Score finished runs until asked to stop."""
    async with Mesh(MeshSettings.load(), tier="evaluation") as mesh:
        await mesh.serve(Tier("evaluation", handlers()))


if __name__ == "__main__":
    run(main)
