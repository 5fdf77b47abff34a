"""Tools of marked tests beside Python packages: a test whose tool is not there is skipped by name, or fails."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
INSTALLED: Final = ROOT / ".tools"
"""Where `make tools` installs, by lock files, what the tests need of each tool's own packages."""
REQUIRED: Final = "POISE_REQUIRE_TOOLS"
"""Set by `.ci/run`: nothing is skipped for want of a tool."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What tests with one marker need."""

    commands: tuple[str, ...]
    """Found on the PATH."""
    packages: tuple[str, ...] = ()
    """Below `.tools/`; `make tools` leaves `.installed` in each."""

    def lacking(self) -> str | None:
        """What is not there and what to do, in one line; None = nothing."""
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
    """What tests with these markers lack here; None = nothing."""
    found = ((marker, TOOLS[marker].lacking()) for marker in sorted(markers & TOOLS.keys()))
    return "; ".join(f"{marker}: {why}" for marker, why in found if why is not None) or None


def required() -> bool:
    """Whether a test fails where its tool is not there."""
    return bool(os.environ.get(REQUIRED))
