"""The tier loader: loads a custom tier from its file, which needs no packaging, and serves it."""

import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from poise.errors import SetupError
from poise.executors.frames import in_child
from poise.settings import MeshSettings
from poise.text.error_text import error_with_type
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

TierSource = Tier | Callable[[], AbstractAsyncContextManager[Tier]]
"""A tier, or a function that opens its resources and yields it: `@asynccontextmanager async def tier()`."""

DEFAULT_VARIABLE: Final = "tier"
"""The default name of a tier in its file."""


def serve(tier: TierSource, *, settings: MeshSettings | None = None) -> None:
    """Run a worker of a tier until SIGTERM or Ctrl-C; the last line of a tier's file.

    A SetupError becomes one line on stderr and exit code 1.

    Args:
        tier: The tier, or a function that yields it.
        settings: The connection to the mesh; None = read from the environment.

    Raises:
        SetupError: The file calls `serve` when it is imported.
    """
    if in_child():
        raise SetupError('serve() runs when the file is imported: put it below `if __name__ == "__main__":`')

    async def main() -> None:
        mesh_settings = settings or MeshSettings.load()
        async with open_tier(tier) as ready, WorkerRuntime(mesh_settings, tier=ready.name) as runtime:
            await runtime.serve(ready)

    run(main)


@asynccontextmanager
async def open_tier(tier: TierSource) -> AsyncIterator[Tier]:
    """Yield the tier, with its resources open.

    Raises:
        SetupError: The function does not yield a tier.
    """
    if isinstance(tier, Tier):
        yield tier
        return
    async with tier() as loaded:
        if not isinstance(loaded, Tier):
            raise SetupError(f"{tier!r} yields {loaded!r}, which is not a Tier")
        yield loaded


def load(where: str) -> TierSource:
    """Load a tier from `FILE.py` or `FILE.py:name`.

    The file can import modules in its folder, as with `python FILE.py`.

    Raises:
        SetupError: The file does not exist, cannot be imported, or does not define the tier.
    """
    file, name = split_location(where)
    module = _import_file(file)
    tier: Any = getattr(module, name, None)
    if tier is None and where.endswith(".py"):
        tiers = {key: value for key, value in vars(module).items() if isinstance(value, Tier)}
        if len(tiers) != 1:
            listed = (
                f"has several ({', '.join(tiers)}): name one, as {where}:{next(iter(tiers))}" if tiers else "has none"
            )
            raise SetupError(f"{where} has no {DEFAULT_VARIABLE!r}, and {listed}")
        (tier,) = tiers.values()
    if isinstance(tier, Tier):
        return tier
    if not callable(tier):
        raise SetupError(f"{file} has no tier {name!r}: it is {tier!r}")
    return cast("Callable[[], AbstractAsyncContextManager[Tier]]", tier)


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or a file: `acme.workflows` or `FILE.py`.

    Raises:
        SetupError: The file does not exist or cannot be imported.
    """
    if not where.endswith(".py"):
        return _import_module(where, where)
    if not Path(where).is_file():
        raise SetupError(f"there is no Python file {where}: give FILE.py, or the name of a module")
    return _import_file(Path(where))


def split_location(where: str) -> tuple[Path, str]:
    """Split `FILE.py:name` into the file and the name.

    Raises:
        SetupError: It is not a Python file.
    """
    before, colon, name = where.rpartition(":")
    file = Path(before if colon and not name.endswith(".py") else where)
    if file.suffix != ".py" or not file.is_file():
        raise SetupError(f"{where!r}: there is no Python file {file}: give FILE.py or FILE.py:name")
    return file, name if file != Path(where) else DEFAULT_VARIABLE


def _import_file(file: Path) -> ModuleType:
    """Import a file under its name, with its folder first on the path, so that child processes find it too."""
    folder = str(file.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import_module(file.stem, str(file))
    if Path(getattr(module, "__file__", None) or "").resolve() != file.resolve():
        raise SetupError(f"{file} has the name of another module, {module.__name__}: rename it")
    return module


def _import_module(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except SetupError:  # the module's own, which says what to do
        raise
    except Exception as error:
        raise SetupError(f"{where} cannot be imported: {error_with_type(error)}") from error
