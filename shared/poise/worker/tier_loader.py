"""Loading: a tier of one's own from its file, which needs no packaging, and the worker that serves it."""

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
"""A tier, or what opens the resources that its handlers need and yields it: `@asynccontextmanager async def tier()`."""

DEFAULT_NAME: Final = "tier"
"""What a tier is called in its file where nothing else is said."""


def serve(tier: TierSource, *, settings: MeshSettings | None = None) -> None:
    """Run a worker of a tier until it is asked to stop (SIGTERM, Ctrl-C); the last line of a tier's file.

    A SetupError becomes one line on stderr and exit code 1.

    Args:
        tier: The tier, or what yields it.
        settings: How to reach the mesh; None = read from the environment.

    Raises:
        SetupError: The file serves whenever it is imported.
    """
    if in_child():
        raise SetupError('serve() runs when the file is imported: put it below `if __name__ == "__main__":`')

    async def main() -> None:
        found = settings or MeshSettings.load()
        async with open_tier(tier) as ready, WorkerRuntime(found, tier=ready.name) as mesh:
            await mesh.serve(ready)

    run(main)


@asynccontextmanager
async def open_tier(tier: TierSource) -> AsyncIterator[Tier]:
    """The tier, with its resources open if it has any.

    Raises:
        SetupError: What was given yields no tier.
    """
    if isinstance(tier, Tier):
        yield tier
        return
    async with tier() as made:
        if not isinstance(made, Tier):
            raise SetupError(f"{tier!r} yields {made!r}, which is no Tier")
        yield made


def load(where: str) -> TierSource:
    """Load a tier from `FILE.py` or `FILE.py:name`.

    The file is imported as `python FILE.py` would find it: what stands beside it can be imported.

    Raises:
        SetupError: There is no such file, it cannot be imported, or it has no such tier.
    """
    place, name = split_location(where)
    module = _import_file(place)
    found: Any = getattr(module, name, None)
    if found is None and where.endswith(".py"):
        tiers = {key: value for key, value in vars(module).items() if isinstance(value, Tier)}
        if len(tiers) != 1:
            some = (
                f"has several ({', '.join(tiers)}): name one, as {where}:{next(iter(tiers))}" if tiers else "has none"
            )
            raise SetupError(f"{where} has no {DEFAULT_NAME!r}, and {some}")
        (found,) = tiers.values()
    if isinstance(found, Tier):
        return found
    if not callable(found):
        raise SetupError(f"{place} has no tier {name!r}: it is {found!r}")
    return cast("Callable[[], AbstractAsyncContextManager[Tier]]", found)


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or a file: `acme.workflows` or `FILE.py`.

    Raises:
        SetupError: There is no such file, or it cannot be imported.
    """
    if not where.endswith(".py"):
        return _import_module(where, where)
    if not Path(where).is_file():
        raise SetupError(f"there is no Python file {where}; say FILE.py, or a module's name")
    return _import_file(Path(where))


def split_location(where: str) -> tuple[Path, str]:
    """The file and the name in it.

    Raises:
        SetupError: It is no Python file.
    """
    file, colon, name = where.rpartition(":")
    place = Path(file if colon and not name.endswith(".py") else where)
    if place.suffix != ".py" or not place.is_file():
        raise SetupError(f"{where!r}: there is no Python file {place}; say FILE.py or FILE.py:name")
    return place, name if place != Path(where) else DEFAULT_NAME


def _import_file(place: Path) -> ModuleType:
    """Import a file under its name, which processes that it starts find again: its folder comes first on the path."""
    folder = str(place.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import_module(place.stem, str(place))
    if Path(getattr(module, "__file__", None) or "").resolve() != place.resolve():
        raise SetupError(f"{place} has the name of another module, {module.__name__}: rename it")
    return module


def _import_module(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except SetupError:
        raise
    except Exception as error:
        raise SetupError(f"{where} cannot be imported: {error_with_type(error)}") from error
