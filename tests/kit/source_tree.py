"""The source files of the library, the tiers and the labs."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = MappingProxyType({"poise": "shared", "poise_services": "services", "poise_labs": "labs"})
"""The folder of each package, by import name."""


def source_files() -> Iterator[tuple[str, Path]]:
    """Return each module's dotted name and its file, ordered by name."""
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder / package).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), file
