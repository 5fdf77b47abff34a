"""`poise dlq`: dead letters, listed, shown, sent again and purged."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Final, TypeVar

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import err, out, print_json
from poise.cli.dlq_view import dead_letter_page, dead_letters_table, outcome_line, totals_line
from poise.cli.errors import EXIT_FAILED, EXIT_INVALID, async_command
from poise.cli.text import plural
from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter, invalid_field, parse_duration, parse_rate
from poise.dead_letters.json_view import DeadLetterDetail, DeadLetterSummary
from poise.dead_letters.model import DeadLetterState
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome

app = typer.Typer(help="Dead letters: list, show, send again, purge.", no_args_is_help=True, add_completion=False)

SHOWN_BEFORE_PURGE: Final = 10
IDS: Final = "As `poise dlq ls` names them: tier/partition/offset."
FILTERS: Final = "Which ones"

T = TypeVar("T")


def _parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser of options whose refusal is one line."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return read


IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", show_default=False, help=IDS)]
TierOption = Annotated[
    str | None,
    typer.Option(metavar="TIER", show_default=False, rich_help_panel=FILTERS, help="Only those of this tier."),
]
ErrorOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        show_default=False,
        rich_help_panel=FILTERS,
        help="Only those with this error, such as TypeError.",
    ),
]
OlderOption = Annotated[
    float | None,
    typer.Option(
        "--older-than",
        parser=_parsed(parse_duration),
        metavar="AGE",
        show_default=False,
        rich_help_panel=FILTERS,
        help="Only those set aside before that: 30s, 10m, 2h, 7d, 1d12h.",
    ),
]
NewerOption = Annotated[
    float | None,
    typer.Option(
        "--newer-than",
        parser=_parsed(parse_duration),
        metavar="AGE",
        show_default=False,
        rich_help_panel=FILTERS,
        help="Only those set aside since then.",
    ),
]
TenantOption = Annotated[
    str | None, typer.Option(show_default=False, rich_help_panel=FILTERS, help="Only those of this tenant.")
]
KeyOption = Annotated[
    str | None, typer.Option(show_default=False, rich_help_panel=FILTERS, help="Only those with this key, as text.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command("ls")
@async_command
async def list_(
    ids: IdsArgument = None,
    *,
    tier: TierOption = None,
    error: ErrorOption = None,
    older: OlderOption = None,
    newer: NewerOption = None,
    tenant: TenantOption = None,
    key: KeyOption = None,
    broker: BrokerOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were sent again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    async with open_client(broker) as poise:
        letters = await DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant).select(chosen)
    shown = [letter for letter in letters if everything or ids or letter.state is not DeadLetterState.REDRIVEN]
    if as_json:
        found = [DeadLetterSummary.of(letter).model_dump(mode="json") for letter in shown]
        print_json(json.dumps(found, ensure_ascii=False))
        return
    if shown:
        out.print(dead_letters_table(shown, time.time()))
    out.print(totals_line(letters, hidden=len(letters) - len(shown)))


@app.command()
@async_command
async def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help=IDS)],
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole: headers, body, error and traceback."""
    async with open_client(broker) as poise:
        admin = DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant)
        [letter] = await admin.select(DeadLetterFilter(ids=frozenset({id_})))
        letter = await admin.load_message(letter)
    if as_json:
        print_json(
            json.dumps(DeadLetterDetail.of(letter).model_dump(mode="json", exclude_unset=True), ensure_ascii=False)
        )
    else:
        out.print(dead_letter_page(letter, time.time()))


@app.command()
@async_command
async def redrive(
    ids: IdsArgument = None,
    *,
    tier: TierOption = None,
    error: ErrorOption = None,
    older: OlderOption = None,
    newer: NewerOption = None,
    tenant: TenantOption = None,
    key: KeyOption = None,
    broker: BrokerOption = None,
    everything: Annotated[bool, typer.Option("--all", rich_help_panel=FILTERS, help="All that may be sent.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=_parsed(parse_rate),
            metavar="N/s",
            show_default=False,
            help="No faster than that: 10/s, 100/m, 1000/h.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is quarantined, if it is named by its ID.")] = False,
    keep_reply_to: Annotated[
        bool, typer.Option("--keep-reply-to", help="Keep who waits for the reply; else nobody is told.")
    ] = False,
    keep_deadline: Annotated[
        bool, typer.Option("--keep-deadline", help="Keep the deadline; else a new one begins.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Send dead letters again, each once: those named, those that match, or --all.

    Interrupt it when you like, and run it again: it goes on where it was.

    What was sent again three times, and died each time, is quarantined: only --force with its ID sends it.
    """
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    _chosen(chosen, everything=everything)
    how = RedriveOptions(
        keep_reply_to=keep_reply_to, keep_deadline=keep_deadline, force=force, rate=rate, dry_run=dry_run
    )
    tally = _Tally(named=bool(ids), dry_run=dry_run)
    try:
        async with (
            open_client(broker) as poise,
            aclosing(DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant).redrive(chosen, how)) as outcomes,
        ):
            async for outcome in outcomes:
                tally.note(outcome)
    except BaseException:  # it is interrupted, or cannot go on
        tally.tell_part()
        raise
    tally.tell()
    if tally.refused and ids:  # what was named was to be sent; of all that match, some may be superseded
        raise typer.Exit(EXIT_FAILED)


@app.command()
@async_command
async def purge(
    ids: IdsArgument = None,
    *,
    tier: TierOption = None,
    error: ErrorOption = None,
    older: OlderOption = None,
    newer: NewerOption = None,
    tenant: TenantOption = None,
    key: KeyOption = None,
    broker: BrokerOption = None,
    everything: Annotated[bool, typer.Option("--all", rich_help_panel=FILTERS, help="All there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Purge dead letters for good, sent again or not: those named, those that match, or --all.

    They are listed no more and can not be sent again.

    Kafka gives their room back once nothing older is kept, and at the latest after 14 days.
    """
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    _chosen(chosen, everything=everything)
    async with open_client(broker) as poise:
        admin = DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant)
        letters = await admin.select(chosen)
        if letters:
            out.print(dead_letters_table(letters if dry_run else letters[:SHOWN_BEFORE_PURGE], time.time()))
            if not dry_run and len(letters) > SHOWN_BEFORE_PURGE:
                out.print(Text(f"… and {len(letters) - SHOWN_BEFORE_PURGE} more", style="dim"))
        if dry_run or not letters:
            verb = "would be purged" if dry_run else "purged: nothing fits"
            out.print(Text(f"{plural(len(letters), 'dead letter')} {verb}", style="dim"))
            return
        if not yes:
            await asyncio.to_thread(_agree, len(letters))
        # By name: what died while a person thought about it was not agreed to.
        gone = await admin.purge(DeadLetterFilter(ids=frozenset(letter.id for letter in letters)))
    out.print(Text(f"{plural(len(gone), 'dead letter')} purged", style="dim"))


class _Tally:
    """What became of the letters that were to be sent, told as it comes and in the end."""

    def __init__(self, *, named: bool, dry_run: bool) -> None:
        self.refused = 0
        self._named = named
        self._dry_run = dry_run
        self._done = 0
        self._quarantined = 0

    def note(self, outcome: RedriveOutcome) -> None:
        if outcome.refused is not None and outcome.letter.state is DeadLetterState.QUARANTINED and not self._named:
            self._quarantined += 1  # told as one number: they are what was not asked for
        elif outcome.refused is not None:
            self.refused += 1
            err.print(outcome_line(outcome), soft_wrap=True)
        else:
            self._done += 1
            out.print(outcome_line(outcome), soft_wrap=True)

    def tell_part(self) -> None:
        if self._done and not self._dry_run:
            told = f"stopped: {plural(self._done, 'dead letter')} sent again; run it again for the rest"
            err.print(Text(told, style="yellow"))

    def tell(self) -> None:
        verb = "would be sent" if self._dry_run else "sent again"
        left = f", {self._quarantined} left in quarantine (name one with --force)" if self._quarantined else ""
        out.print(Text(f"{plural(self._done, 'dead letter')} {verb}{left}", style="dim"))


def _agree(number: int) -> None:
    """Ask a person.

    Raises:
        Exit: It is not to be, or nobody is there to be asked.
    """
    code, why = EXIT_FAILED, ""
    try:
        if typer.confirm(f"Purge {plural(number, 'dead letter')} for good?", err=True):
            return
    except typer.Abort:
        code, why = EXIT_INVALID, ": nobody is there to be asked; --yes purges without asking"
        err.print()
    err.print(Text(f"nothing was purged{why}", style="yellow"))
    raise typer.Exit(code)


def _filter(  # noqa: PLR0917 - one for each option
    ids: Sequence[str] | None,
    tier: str | None,
    error: str | None,
    older: float | None,
    newer: float | None,
    tenant: str | None,
    key: str | None,
) -> DeadLetterFilter:
    return DeadLetterFilter(
        tier=tier,
        error=error,
        tenant=tenant,
        key=None if key is None else key.encode(errors="surrogateescape"),
        older_than=older,
        newer_than=newer,
        ids=frozenset(ids or ()),
    )


def _chosen(chosen: DeadLetterFilter, *, everything: bool) -> None:
    """See that something was chosen.

    Raises:
        InvalidMessageError: Nothing was.
    """
    if not chosen.has_criteria and not everything:
        raise invalid_field("ID", "name dead letters, or choose with --tier, --error, --older-than, … or --all")
