"""The stack on a terminal: what happens as it starts and runs, where things are, and a table of its parts."""

import time
from typing import Final

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from poise.stack.events import EventListener, StackEvent
from poise.stack.state import PartState, StackState

TITLES: Final = {"kafka": "Kafka", "redis": "Valkey", "model": "model"}

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def event_printer(console: Console) -> EventListener:
    """Print each event as a line."""

    def print_event(event: StackEvent) -> None:
        name = f"{TITLES.get(event.part, event.part):<16}"
        text = escape(event.text)
        if event.state == "ready":
            console.print(f"  [green]✓[/] {name} [dim]{event.seconds or 0:4.1f} s  {text}[/]", soft_wrap=True)
        elif event.state == "failed":
            console.print(f"  [bold red]✗[/] {name} {text}", soft_wrap=True)
        else:
            console.print(f"  [dim]·[/] {text}", soft_wrap=True)

    return print_event


def addresses_table(state: StackState) -> RenderableType:
    """Return the table of the addresses that users need."""
    table = Table.grid(padding=(0, 2))
    if state.gateway_url:
        table.add_row("  gateway", f"[bold]{state.gateway_url}[/]", f"[dim]its API: {state.gateway_url}/docs[/]")
    table.add_row("  Kafka", f"[bold]{state.broker}[/]")
    table.add_row("  Redis", f"[bold]{_without_password(state.redis_url or '')}[/]")
    if state.model_url:
        table.add_row("  model", f"[bold]{state.model_url}[/]", f"[dim]{state.model_name}[/]")
    return table


def parts_table(state: StackState) -> RenderableType:
    """Return the table of the parts: what runs, where, and since when."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("part", "state", "where", "pid", "for"):
        table.add_column(column, no_wrap=True)
    for part in state.parts:
        address = state.gateway_url if part.name == "gateway-1" and state.gateway_url else part.address
        table.add_row(
            TITLES.get(part.name, part.name),
            _state(part, ready=state.ready),
            _without_password(address),
            str(part.pid or ""),
            _since(part),
        )
    return table


def format_uptime(seconds: float) -> str:
    """Format seconds for people, such as `2 min 5 s`."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def _since(part: PartState) -> str:
    if part.since is None:
        return ""
    restarted = f", restarts: {part.restarts}" if part.restarts else ""
    return format_uptime(time.time() - part.since) + restarted


def _state(part: PartState, *, ready: bool) -> str:
    if not part.ours:
        return "[cyan]used[/]"
    if part.since is not None:
        return "[green]serves[/]"
    return "[bold red]restarting[/]" if ready else "[yellow]starting[/]"


def _without_password(address: str) -> str:
    head, at, tail = address.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else address
