"""docs/WALKTHROUGH.md, as its tests read it."""

import re
from typing import Final, NamedTuple

from source_tree import PACKAGES, ROOT

PAGE: Final = (ROOT / "docs" / "WALKTHROUGH.md").read_text(encoding="utf-8")
STEPS: Final = PAGE.split("\n## The path of an ask\n", 1)[1].split("\n## ", 1)[0]
"""The section with the numbered steps."""
_REFERENCE: Final = re.compile(rf"`(?:{'|'.join(PACKAGES.values())})/([\w/.]+\.py)(?::([\w.]+))?`")


class Reference(NamedTuple):
    """A module that the page names, as a path from its import root, and perhaps a function of it."""

    module: str
    function: str


def references(text: str) -> list[Reference]:
    """Return the references of a text, in its order."""
    return [Reference(*found) for found in _REFERENCE.findall(text)]
