"""`poise worker`: run one worker of a custom tier."""

from typing import Annotated

import typer

from poise.cli.connect import BrokerOption
from poise.stack.discovery import resolve_settings
from poise.worker import tier_loader

FILE = "FILE.py[:NAME]"


def worker(
    tier: Annotated[
        str, typer.Argument(metavar=FILE, help="The file of the tier, and the name of its variable: tier.")
    ],
    broker: BrokerOption = None,
) -> None:
    """Run a worker until Ctrl-C or SIGTERM; run it again beside this one for more of them."""
    tier_loader.serve(tier_loader.load(tier), settings=resolve_settings(broker))
