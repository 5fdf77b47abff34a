"""`poise feedback`: what a person thought of an answer."""

from typing import Annotated

import typer

from poise.cli.connect import BrokerOption, open_client
from poise.cli.console import out
from poise.cli.errors import async_command
from poise.cli.text import clean
from poise.contracts.feedback import Thumb


@async_command
async def feedback(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, as `poise ask` names it.")],
    *,
    up: Annotated[bool | None, typer.Option("--up/--down", show_default=False, help="Thumb up or down.")] = None,
    rating: Annotated[
        int | None, typer.Option(metavar="1-5", show_default=False, help="From 1, the worst, to 5, the best.")
    ] = None,
    correction: Annotated[
        str | None, typer.Option(metavar="TEXT", show_default=False, help="What the answer should have been.")
    ] = None,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", show_default=False, help="Anything else.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            show_default=False,
            help="The id of its author: later feedback with this id replaces it.",
        ),
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Give feedback on an answer: a thumb, a rating or a correction. `poise scores` sums it up."""
    thumb: Thumb | None = None if up is None else "up" if up else "down"
    async with open_client(broker) as poise:
        await poise.feedback(run_id, thumb=thumb, rating=rating, correction=correction, comment=comment, id_=name)
    out.print(f"noted for run {clean(run_id)}", markup=False)
