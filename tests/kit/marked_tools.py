"""Tools besides Python packages that marked tests need: without its tool, a test is skipped by name or fails."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
INSTALLED: Final = ROOT / ".tools"
"""Where `make tools` installs the locked packages that tests need for each tool."""
REQUIRED: Final = "POISE_REQUIRE_TOOLS"
"""Set by `.ci/run`: a test whose tool is missing fails instead of being skipped."""


@dataclass(frozen=True, slots=True)
class Tool:
    """The requirements of the tests with one marker."""

    commands: tuple[str, ...]
    """They must be on the PATH."""
    packages: tuple[str, ...] = ()
    """Folders in `.tools/`; `make tools` creates `.installed` in each."""

    def lacking(self) -> str | None:
        """Return what is missing and what to do, in one line; None = nothing."""
        if missing := [command for command in self.commands if shutil.which(command) is None]:
            return f"{', '.join(missing)} not on the PATH"
        if missing := [name for name in self.packages if not (INSTALLED / name / ".installed").exists()]:
            return f"{', '.join(missing)} not installed in {INSTALLED.name}/: run `make tools`"
        return None


TOOLS: Final = {
    "node": Tool(("node", "npm"), ("node",)),
    "java": Tool(("java", "javac"), ("java",)),
    "python_client": Tool((), ("python-client",)),
    "callgrind": Tool(("valgrind",)),
}
"""By marker, as described in pyproject.toml."""


def lacking(markers: set[str]) -> str | None:
    """Return what tests with these markers lack on this machine; None = nothing."""
    found = ((marker, TOOLS[marker].lacking()) for marker in sorted(markers & TOOLS.keys()))
    return "; ".join(f"{marker}: {why}" for marker, why in found if why is not None) or None


def required() -> bool:
    """Return whether a test fails if its tool is missing."""
    return bool(os.environ.get(REQUIRED))
