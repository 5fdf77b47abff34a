"""Where the command line writes: results on stdout, all else on stderr."""

from typing import Final

from rich.console import Console

out: Final = Console(highlight=False)
err: Final = Console(stderr=True, highlight=False)


def print_json(text: str) -> None:
    """Write JSON to stdout as it is: never wrapped, never colored."""
    out.file.write(text + "\n")
    out.file.flush()
