"""`poise cancel`: stop a run, or one step of it."""

from typing import Annotated

import typer

from poise.cli.connect import BrokerOption, open_client
from poise.cli.console import out
from poise.cli.errors import async_command
from poise.cli.text import clean


@async_command
async def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, as `poise ask` and `poise trace` name it.")],
    step: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="Only this step of it, such as generate.")
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Stop a run wherever it is at work, and drop what waits of it. One that has ended is left alone."""
    async with open_client(broker) as poise:
        await poise.cancel(run_id, step=step)
    what = "run" if step is None else f"step {clean(step)} of run"
    out.print(f"every worker is told to stop {what} {clean(run_id)}", markup=False)
