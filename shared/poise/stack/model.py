"""Model: the small language model, served by a child process that speaks OpenAI's HTTP."""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from poise.stack import probe
from poise.stack.managed_process import ManagedProcess
from poise.stack.model_server import API_KEY_VARIABLE, DEFAULT_MODEL, PATH_PREFIX, check_model_file, default_model


class ModelServer(ManagedProcess):
    """One embedded model server; `async with ModelServer(directory) as server: server.backend`.

    It answers only requests that carry its key, which is generated here.

    Args:
        directory: Its working directory; it stores only the log there.
        port: Where it listens, on loopback; 0 = any free port.
        log: The log file; None = `model.log` in the directory.
        model: A GGUF file; None = the small model of the extra `embedded`.
    """

    start_timeout: ClassVar[float] = 120.0
    stop_grace: ClassVar[float] = 5.0

    def __init__(self, directory: Path, *, port: int = 0, log: Path | None = None, model: Path | None = None) -> None:
        super().__init__("model", "the model server", directory, port=port, log=log)
        self._model = model
        self._key = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        """Its base address; requests go to `<url>/chat/completions`."""
        return f"http://{self.address}{PATH_PREFIX}/v1"

    @property
    def model_name(self) -> str:
        """The model's name in requests."""
        return self._model.stem if self._model else DEFAULT_MODEL

    @property
    def backend(self) -> dict[str, str]:
        """This server as a backend in the inference tier's settings, with its key."""
        return {"url": self.url, "model": self.model_name, "api_key": self._key}

    async def _command(self) -> list[str]:
        model = check_model_file(self._model) if self._model else default_model()
        arguments = {"--port": str(self.port), "--model": str(model.absolute()), "--name": self.model_name}
        words = (word for pair in arguments.items() for word in pair)
        return [sys.executable, "-m", "poise.stack.model_server", *words]

    async def _answers(self) -> object:
        return await probe.http_status(f"http://{self.address}{PATH_PREFIX}/health", bearer=self._key) == 200  # noqa: PLR2004 - OK

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), API_KEY_VARIABLE: self._key}
