"""`poise dlq`: dead letters, listed, shown and sent again."""

import json
import time
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.text import Text

from poise.cli.connection import BrokerOption, JsonOption, connected
from poise.cli.console import err, out, print_json
from poise.cli.dlq_view import as_json_value, letter_page, letters_list
from poise.cli.edge import FAILED, asynchronous
from poise.cli.text import clean, plural
from poise.contracts.fault import FieldError
from poise.contracts.topics import CATALOGUE, dead_topic
from poise.errors import InvalidMessageError, TerminalError, UnavailableError
from poise.messaging import DeadLetter, Mesh, dead_letters
from poise.messaging.follow import read_all

TIERS: Final = tuple(sorted({topic.tier for topic in CATALOGUE.values() if topic.tier}))

app = typer.Typer(help="Dead letters: list, show, send again.", no_args_is_help=True, add_completion=False)

TierOption = Annotated[
    str | None, typer.Option(metavar="|".join(TIERS), show_default=False, help="Only those of this tier.")
]
ErrorOption = Annotated[
    str | None, typer.Option(metavar="TYPE", show_default=False, help="Only those with this error, such as TypeError.")
]
READ_WITHIN: Final = 60.0
"""Seconds; one partition of a compacted topic."""
IDS: Final = "As `poise dlq ls` names them: tier/partition/offset."


@app.command("ls")
@asynchronous
async def list_(
    tier: TierOption = None,
    error: ErrorOption = None,
    broker: BrokerOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were sent again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    async with connected(broker) as poise:
        letters = await _select(poise.mesh, tier, error=error)
    shown = [letter for letter in letters if everything or letter.redriven is None]
    if as_json:
        print_json(json.dumps([as_json_value(letter, whole=False) for letter in shown], ensure_ascii=False))
        return
    if shown:
        out.print(letters_list(shown, time.time()))
    hidden = len(letters) - len(shown)
    again = f", {hidden} sent again (--all shows them)" if hidden else ""
    out.print(Text(f"{plural(len(shown), 'dead letter')}{again}", style="dim"))


@app.command()
@asynchronous
async def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help=IDS)],
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole: headers, body, error and traceback."""
    async with connected(broker) as poise:
        [letter] = await _select(poise.mesh, None, ids=[id_])
    if as_json:
        print_json(json.dumps(as_json_value(letter, whole=True), ensure_ascii=False))
    else:
        out.print(letter_page(letter, time.time()))


@app.command()
@asynchronous
async def redrive(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", show_default=False, help=IDS)] = None,
    tier: TierOption = None,
    error: ErrorOption = None,
    broker: BrokerOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that were not sent again yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Send dead letters again: those named, those that match --tier and --error, or --all.

    Nobody waits for the reply any more, so `reply_to` and the deadline are left out. Each is sent once.
    """
    if not (ids or tier or error or everything):
        raise _invalid("ID", "name dead letters, or choose with --tier, --error or --all")
    failed = 0
    async with connected(broker) as poise:
        letters = await _select(poise.mesh, tier, error=error, ids=ids or ())
        chosen = letters if ids else [letter for letter in letters if letter.redriven is None]
        for letter in chosen:
            failed += not await _send(poise.mesh, letter, dry_run=dry_run)
    verb = "would be sent" if dry_run else "sent again"
    out.print(Text(f"{plural(len(chosen) - failed, 'dead letter')} {verb}", style="dim"))
    if failed and ids:  # what was named was to be sent; of all that match, some may be superseded
        raise typer.Exit(FAILED)


async def _send(mesh: Mesh, letter: DeadLetter, *, dry_run: bool) -> bool:
    what = f"{letter.id} ({clean(letter.error)})"
    try:
        dead_letters.check(letter)
        await _not_superseded(mesh, letter)
        if dry_run:
            out.print(f"{what} → {letter.topic}", markup=False)
        else:
            sent = await dead_letters.redrive(mesh.send, letter, mesh.partition_of)
            out.print(f"{what} → {sent}", markup=False)
    except UnavailableError:
        raise
    except TerminalError as error:
        err.print(Text.assemble(("not sent ", "yellow"), clean(str(error))), soft_wrap=True)
        return False
    return True


async def _not_superseded(mesh: Mesh, letter: DeadLetter) -> None:
    """See that sending it again cannot bring an old version of a document back.

    Raises:
        TerminalError: Its key has a newer value.
    """
    key, topic = letter.record.key, CATALOGUE[letter.topic]
    if not topic.compacted or key is None:
        return
    async with mesh.follow(topic.name, partitions=[await mesh.partition_of(topic.name, key)]) as follower:
        same = [record for record in await read_all(follower, within=READ_WITHIN) if record.key == key]
    if same and str(same[-1].position) != letter.record.header(dead_letters.ORIGIN):
        raise TerminalError(f"{letter.id} is an old version: {same[-1].position} has the same key and came later")


async def _select(
    mesh: Mesh, tier: str | None, *, error: str | None = None, ids: Sequence[str] = ()
) -> list[DeadLetter]:
    """The dead letters of a tier or of those that the ids name.

    Raises:
        InvalidMessageError: There is no such tier, or an id names no dead letter.
    """
    tiers = [tier] if tier else sorted({id_.partition("/")[0] for id_ in ids}) or list(TIERS)
    for name in tiers:
        if name not in TIERS:
            raise _invalid("tier", f"{name!r} has no dead letters: there are {', '.join(TIERS)}")
    letters = [letter for name in tiers for letter in dead_letters.read(name, await mesh.read_topic(dead_topic(name)))]
    missing = set(ids) - {letter.id for letter in letters}
    if missing:
        raise _invalid("ID", f"there is no dead letter {', '.join(sorted(missing))}: `poise dlq ls --all` lists them")
    return sorted(dead_letters.matching(letters, error=error, ids=ids), key=lambda letter: letter.at)


def _invalid(field: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{field}: {detail}", [FieldError(field=field, detail=detail)])
