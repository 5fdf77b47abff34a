"""`poise dlq`: list, show, redrive and purge dead letters."""

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

app = typer.Typer(help="Dead letters: list, show, redrive, purge.", no_args_is_help=True, add_completion=False)

SHOWN_BEFORE_PURGE: Final = 10
IDS: Final = "Ids as `poise dlq ls` shows them: tier/partition/offset."
FILTERS: Final = "Filters"

T = TypeVar("T")


def _parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return an option parser whose error is one line."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return read


IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", show_default=False, help=IDS)]
TierOption = Annotated[
    str | None,
    typer.Option(metavar="TIER", show_default=False, rich_help_panel=FILTERS, help="Only dead letters of this tier."),
]
ErrorOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        show_default=False,
        rich_help_panel=FILTERS,
        help="Only dead letters with this error, such as TypeError.",
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
        help="Only dead letters older than this: 30s, 10m, 2h, 7d, 1d12h.",
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
        help="Only dead letters newer than this.",
    ),
]
TenantOption = Annotated[
    str | None, typer.Option(show_default=False, rich_help_panel=FILTERS, help="Only dead letters of this tenant.")
]
KeyOption = Annotated[
    str | None,
    typer.Option(show_default=False, rich_help_panel=FILTERS, help="Only dead letters with this key, as text."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


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
    everything: Annotated[bool, typer.Option("--all", help="Also dead letters that were redriven.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    async with open_client(broker) as poise:
        entries = await DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant).select(chosen)
    shown = [entry for entry in entries if everything or ids or entry.state is not DeadLetterState.REDRIVEN]
    if as_json:
        found = [DeadLetterSummary.of(entry).model_dump(mode="json") for entry in shown]
        print_json(json.dumps(found, ensure_ascii=False))
        return
    if shown:
        out.print(dead_letters_table(shown, time.time()))
    out.print(totals_line(entries, hidden=len(entries) - len(shown)))


@app.command()
@async_command
async def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help=IDS)],
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: headers, body, error and traceback."""
    async with open_client(broker) as poise:
        admin = DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant)
        [entry] = await admin.select(DeadLetterFilter(ids=frozenset({id_})))
        entry = await admin.load_message(entry)
    if as_json:
        print_json(
            json.dumps(DeadLetterDetail.of(entry).model_dump(mode="json", exclude_unset=True), ensure_ascii=False)
        )
    else:
        out.print(dead_letter_page(entry, time.time()))


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
    everything: Annotated[
        bool, typer.Option("--all", rich_help_panel=FILTERS, help="Every dead letter that may be sent.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=_parsed(parse_rate),
            metavar="N/s",
            show_default=False,
            help="Maximum rate: 10/s, 100/m, 1000/h.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also send quarantined dead letters, if their ids are given.")
    ] = False,
    keep_reply_to: Annotated[
        bool,
        typer.Option("--keep-reply-to", help="Keep reply_to; by default it is dropped, because the caller is gone."),
    ] = False,
    keep_deadline: Annotated[
        bool, typer.Option("--keep-deadline", help="Keep the deadline; by default the message gets a new one.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Send dead letters again, each once: by id, by filter, or --all.

    The command may be interrupted and run again: it resumes where it stopped.

    A message that failed again after three redrives is quarantined: only --force with its id sends it.
    """
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    _require_selection(chosen, everything=everything)
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
    except BaseException:  # interrupted, or failed
        tally.report_partial()
        raise
    tally.report()
    if tally.refused and ids:  # of the matches of a filter, some may be superseded; each named one was to be sent
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
    everything: Annotated[bool, typer.Option("--all", rich_help_panel=FILTERS, help="Every dead letter.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete dead letters, redriven or not: by id, by filter, or --all.

    They are no longer listed and cannot be redriven.

    Kafka frees their disk space when it deletes their log segment, after 14 days at the latest.
    """
    chosen = _filter(ids, tier, error, older, newer, tenant, key)
    _require_selection(chosen, everything=everything)
    async with open_client(broker) as poise:
        admin = DeadLetterAdmin(poise.mesh.logs, poise.mesh.settings.tenant)
        entries = await admin.select(chosen)
        if entries:
            out.print(dead_letters_table(entries if dry_run else entries[:SHOWN_BEFORE_PURGE], time.time()))
            if not dry_run and len(entries) > SHOWN_BEFORE_PURGE:
                out.print(Text(f"… and {len(entries) - SHOWN_BEFORE_PURGE} more", style="dim"))
        if dry_run or not entries:
            verb = "would be purged" if dry_run else "purged: nothing matches"
            out.print(Text(f"{plural(len(entries), 'dead letter')} {verb}", style="dim"))
            return
        if not yes:
            await asyncio.to_thread(_confirm, len(entries))
        # By id: what was dead-lettered during the confirmation was not part of it.
        purged = await admin.purge(DeadLetterFilter(ids=frozenset(entry.id for entry in entries)))
    out.print(Text(f"{plural(len(purged), 'dead letter')} purged", style="dim"))


class _Tally:
    """Prints each outcome of a redrive as it arrives, and the totals at the end."""

    def __init__(self, *, named: bool, dry_run: bool) -> None:
        self.refused = 0
        self._named = named
        self._dry_run = dry_run
        self._done = 0
        self._quarantined = 0

    def note(self, outcome: RedriveOutcome) -> None:
        if outcome.refused is not None and outcome.entry.state is DeadLetterState.QUARANTINED and not self._named:
            self._quarantined += 1  # only counted: they were not named
        elif outcome.refused is not None:
            self.refused += 1
            err.print(outcome_line(outcome), soft_wrap=True)
        else:
            self._done += 1
            out.print(outcome_line(outcome), soft_wrap=True)

    def report_partial(self) -> None:
        if self._done and not self._dry_run:
            line = f"stopped: {plural(self._done, 'dead letter')} sent again; run the command again for the rest"
            err.print(Text(line, style="yellow"))

    def report(self) -> None:
        verb = "would be sent" if self._dry_run else "sent again"
        left = f", {self._quarantined} left in quarantine (name one with --force)" if self._quarantined else ""
        out.print(Text(f"{plural(self._done, 'dead letter')} {verb}{left}", style="dim"))


def _confirm(number: int) -> None:
    """Ask for confirmation.

    Raises:
        Exit: It was refused, or stdin is not a terminal.
    """
    code, why = EXIT_FAILED, ""
    try:
        if typer.confirm(f"Purge {plural(number, 'dead letter')} for good?", err=True):
            return
    except typer.Abort:
        code, why = EXIT_INVALID, ": no confirmation can be read from stdin; --yes purges without asking"
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


def _require_selection(chosen: DeadLetterFilter, *, everything: bool) -> None:
    """Check that dead letters are selected.

    Raises:
        InvalidMessageError: There is no id, no filter and no `--all`.
    """
    if not chosen.has_criteria and not everything:
        raise invalid_field("ID", "give ids, or select with --tier, --error, --older-than, … or --all")
