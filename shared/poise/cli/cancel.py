"""`poise cancel`: stop a run, or one step of it."""

from typing import Annotated

import typer

from poise.cli.connect import BrokerOption, open_client
from poise.cli.console import out
from poise.cli.errors import async_command
from poise.cli.text import clean


@async_command
async def cancel(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="The run's id, as `poise ask` and `poise trace` show it.")
    ],
    step: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="Cancel only this step, such as generate.")
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Cancel a run: stop its calls on every worker and drop its queued messages. A finished run is not changed."""
    async with open_client(broker) as poise:
        await poise.cancel(run_id, step=step)
    what = "run" if step is None else f"step {clean(step)} of run"
    out.print(f"sent to every worker: cancel {what} {clean(run_id)}", markup=False)
