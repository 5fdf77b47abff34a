"""The gateway."""

import poise.sigterm  # noqa: F401 - first: from here on it is heard
from poise.messaging import Mesh, run
from poise.settings import MeshSettings
from services.gateway.server import serve
from services.gateway.settings import GatewaySettings


async def main() -> None:
    """Let HTTP clients in until asked to stop."""
    mesh_settings, settings = MeshSettings.load(), GatewaySettings.load()
    async with Mesh(mesh_settings, tier="gateway") as mesh:
        await serve(mesh, settings)


if __name__ == "__main__":
    run(main)
