"""The versions of aiokafka and FastStream that the patches were written for."""

import functools
from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Final

from poise.errors import SetupError

SUPPORTED: Final[Mapping[str, str]] = MappingProxyType({"aiokafka": "0.14", "faststream": "0.7"})
"""By library: the minor version that the patches were written for. Private names may change in any other."""


@functools.cache
def check_version(library: str) -> None:
    """Check that the installed version of a library is one that its patches were written for.

    Raises:
        SetupError: It is not.
    """
    installed, supported = metadata.version(library), SUPPORTED[library]
    if installed.split(".")[:2] != supported.split("."):
        raise SetupError(
            f"{library} {installed} is installed, but Poise replaces internals of {library} {supported}.x: "
            f"install {library}=={supported}.*"
        )
