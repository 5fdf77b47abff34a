"""`poise cache`: statistics of cached answers, and purging them."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Annotated, Final

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption
from poise.cli.console import out, print_json
from poise.cli.errors import async_command
from poise.cli.table import Row, table
from poise.cli.text import clean, format_duration, format_ms, plural
from poise.dead_letters.filter import parse_duration
from poise.redis.answer_store import AnswerStoreAdmin, AnswerStoreStats
from poise.redis.client import RedisClient
from poise.stack.discovery import resolve_settings

app = typer.Typer(help="Cached answers: statistics and purging.", no_args_is_help=True, add_completion=False)

COMMAND_TIMEOUT: Final = 10.0
"""Seconds for each Redis command: Redis may be far away, and a command may read many entries."""
HEADER: Final = ("tenant", "entries", "size", "hits", "stale", "shared", "misses", "hit rate", "time saved")
TenantOption = Annotated[str | None, typer.Option(show_default=False, help="Only this tenant; default: all.")]


def _age(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
@async_command
async def stats(tenant: TenantOption = None, broker: BrokerOption = None, *, as_json: JsonOption = False) -> None:
    """Show the cached answers of each tenant, their hits, and the time that these saved."""
    async with _connected(broker) as admin:
        found = {name: await admin.stats(name) for name in await _tenants(admin, tenant)}
    if as_json:
        print_json(json.dumps({name: _plain(counts) for name, counts in found.items()}, ensure_ascii=False))
    elif any(counts != AnswerStoreStats() for counts in found.values()):
        out.print(table(HEADER, [Row(_cells(name, counts)) for name, counts in found.items()]))
        out.print(
            Text(
                "\nshared: answered by another run of the same question; hit rate: (hits + stale) of all lookups", "dim"
            )
        )
    else:
        out.print(Text("no answer is cached, and none was looked up", style="dim"))


@app.command()
@async_command
async def purge(
    tenant: TenantOption = None,
    document: Annotated[
        str | None, typer.Option(metavar="ID", show_default=False, help="Only answers that depend on this document.")
    ] = None,
    older: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            parser=_age,
            metavar="AGE",
            show_default=False,
            help="Only answers older than this: 30s, 10m, 2h, 7d.",
        ),
    ] = None,
    broker: BrokerOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Delete cached answers: those that match, or all. The next ask computes them again.

    An answer whose computation has already begun will not be cached.
    """
    computed_before = None if older is None else time.time() - older
    count = 0
    async with _connected(broker) as admin:
        delete = admin.select if dry_run else admin.purge
        for name in await _tenants(admin, tenant):
            found = await delete(name, document=document, computed_before=computed_before)
            count += len(found)
            if dry_run:
                _list(name, [entry.answer.text for entry in found.values() if entry is not None])
    verb = "would be purged" if dry_run else "purged" if count else "purged: nothing matches"
    out.print(Text(f"{plural(count, 'cached answer')} {verb}", style="dim"))


def _list(tenant: str, texts: list[str]) -> None:
    for text in texts:
        line = Text.assemble((clean(tenant), "cyan"), "  ", " ".join(clean(text).split()))
        out.print(line, no_wrap=True, overflow="ellipsis")


@asynccontextmanager
async def _connected(broker: str | None) -> AsyncIterator[AnswerStoreAdmin]:
    async with RedisClient(resolve_settings(broker).redis_url, command_timeout=COMMAND_TIMEOUT) as cache:
        yield AnswerStoreAdmin(cache)


async def _tenants(admin: AnswerStoreAdmin, tenant: str | None) -> list[str]:
    return await admin.tenants() if tenant is None else [tenant]


def _cells(tenant: str, counts: AnswerStoreStats) -> tuple[str, ...]:
    number: Callable[[int], str] = "{:,}".format
    return (
        clean(tenant),
        number(counts.entries),
        _size(counts.bytes),
        *map(number, (counts.hits, counts.stale, counts.shared, counts.misses)),
        "–" if counts.hit_rate is None else f"{counts.hit_rate:.0%}",
        format_duration(counts.saved) if counts.saved >= 1 else format_ms(counts.saved * 1_000),
    )


def _size(number: int) -> str:
    for size, unit in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"


def _plain(counts: AnswerStoreStats) -> dict[str, object]:
    """Return a tenant's counts as JSON values; `saved` is in seconds."""
    return {**asdict(replace(counts, saved=round(counts.saved, 3))), "hit_rate": counts.hit_rate}
