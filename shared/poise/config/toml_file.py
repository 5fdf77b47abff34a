"""TOML files: read in one place, so that each is read alike."""

import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file, with a byte order mark or without.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or not UTF-8.
    """
    return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
