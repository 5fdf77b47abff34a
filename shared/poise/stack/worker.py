"""Worker: one process of a tier, `python -m poise_services.<tier>`."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from poise.errors import SetupError
from poise.stack import probe
from poise.stack.environment import for_tier
from poise.stack.managed_process import ManagedProcess
from poise.stack.options import custom_tier_name


class Worker(ManagedProcess):
    """One worker. It runs in this process's working directory, so that relative paths in its settings mean the same.

    Args:
        tier: Its tier.
        number: Its number among the workers of its tier, from 1.
        directory: Its state directory; its contents can be rebuilt.
        port: Its admin endpoint's port; 0 = any free port.
        log: Its log file.
        environment: Environment variables that are added to those of this process, and override them.
    """

    start_timeout: ClassVar[float] = 90.0
    stop_grace: ClassVar[float] = 30.0

    def __init__(
        self, tier: str, number: int, directory: Path, *, port: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(f"{tier}-{number}", f"the worker {tier}-{number}", directory, port=port, log=log)
        self.tier = tier
        self.overrides: Mapping[str, str] = {}
        """Variables that are added to `environment`, and override it, from the next start on."""
        self._added = environment

    @property
    def instance(self) -> str:
        """Its name, `<tier>-<number>`."""
        return self.name

    @property
    def pid(self) -> int:
        """Its process id, which changes with each restart."""
        return self.child.pid

    @property
    def admin_url(self) -> str:
        """Where it serves `/healthz`, `/readyz` and `/metrics`."""
        return f"http://{self.address}"

    async def _command(self) -> list[str]:
        return [sys.executable, "-m", f"poise_services.{self.tier}"]

    async def _answers(self) -> object:
        return await probe.http_status(f"{self.admin_url}/readyz") == 200  # noqa: PLR2004 - OK

    def _working_directory(self) -> Path | None:
        return None

    def _environment(self) -> Mapping[str, str]:
        own = {
            "POISE_INSTANCE": self.instance,
            "POISE_ADMIN_HOST": probe.LOOPBACK,
            "POISE_ADMIN_PORT": str(self.port),
            "POISE_STATE_DIR": str(self.directory.absolute()),
        }
        given = for_tier(self.tier, {**os.environ, **self._added, **self.overrides})
        return {**given, **own, **self._python_path()}

    def _python_path(self) -> Mapping[str, str]:
        paths = filter(None, (*import_paths(), os.environ.get("PYTHONPATH")))
        return {"PYTHONPATH": os.pathsep.join(paths)}


class CustomTierWorker(Worker):
    """One worker of a custom tier, `poise worker FILE.py`.

    Args:
        where: The tier's file, `FILE.py` or `FILE.py:name`; its workers have the name of the file.
        number: Its number among the workers of its tier, from 1.
        directory: Its state directory; its contents can be rebuilt.
        port: Its admin endpoint's port; 0 = any free port.
        log: Its log file.
        environment: Environment variables that are added to those of this process, and override them.
    """

    def __init__(
        self, where: str, number: int, directory: Path, *, port: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(custom_tier_name(where), number, directory, port=port, log=log, environment=environment)
        self._where = where

    async def _command(self) -> list[str]:
        return [sys.executable, "-m", "poise", "worker", self._where]


def import_paths() -> list[str]:
    """Return the import paths of the library and the tiers, without duplicates."""
    specs = (importlib.util.find_spec(package) for package in ("poise", "poise_services"))
    packages = (location for spec in specs if spec is not None for location in spec.submodule_search_locations or ())
    return list(dict.fromkeys(str(Path(package).parent.absolute()) for package in packages))


def check_tiers(tiers: Iterable[str]) -> None:
    """Check that the tiers are installed.

    Raises:
        SetupError: One of them is not installed.
    """
    for tier in tiers:
        if importlib.util.find_spec(f"poise_services.{tier}") is None:
            raise SetupError(f"there is no tier {tier} in this installation of Poise: use --workers {tier}=0")
