"""Reading TOML files."""

import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file, with or without a byte order mark.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not TOML, or not UTF-8.
    """
    return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
