"""The gateway."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import EpochCheck, Mesh, run
from poise.settings import MeshSettings
from services.gateway.server import serve
from services.gateway.settings import GatewaySettings


async def main() -> None:
    """Let HTTP clients in until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), GatewaySettings.load()
    async with Mesh(mesh_settings, tier="gateway") as mesh, EpochCheck(mesh) as epochs:
        await serve(mesh, settings, epochs)


if __name__ == "__main__":
    run(main)
