"""`poise worker`: one worker of a tier of one's own."""

from typing import Annotated

import typer

from poise.cli import connection
from poise.cli.connection import BrokerOption
from poise.messaging import loading

FILE = "FILE.py[:NAME]"


def worker(
    tier: Annotated[str, typer.Argument(metavar=FILE, help="The tier's file, and what it is called there: tier.")],
    broker: BrokerOption = None,
) -> None:
    """Run a worker until Ctrl-C or SIGTERM; run it again beside this one for more of them."""
    loading.serve(loading.load(tier), settings=connection.settings(broker))
