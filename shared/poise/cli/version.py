"""`poise version`."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from poise.cli.console import out


def version() -> None:
    """Print the version of Poise, alone on a line."""
    try:
        out.print(version_of("poise"))
    except PackageNotFoundError:
        out.print("unknown: this is a checkout that is not installed")
