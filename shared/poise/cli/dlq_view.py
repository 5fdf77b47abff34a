"""Renders dead letters for a terminal. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.cli.table import Row, table
from poise.cli.text import clean, format_duration, plural
from poise.contracts.headers import ATTEMPT, DEAD_POSITION, DEAD_TRACEBACK, DEAD_WORKER, ORIGIN
from poise.dead_letters.model import DeadLetter, DeadLetterState
from poise.dead_letters.redrive_plan import RedriveOutcome

MAX_DUMP_BYTES: Final = 4_096
"""Bytes of a body that are shown if it is not JSON."""
BYTES_PER_LINE: Final = 16
_STYLES: Final[Mapping[DeadLetterState, str]] = {
    DeadLetterState.DEAD: "red",
    DeadLetterState.QUARANTINED: "bold yellow",
    DeadLetterState.REDRIVEN: "dim",
}
PRINTABLE: Final = range(0x20, 0x7F)


def dead_letters_table(entries: Sequence[DeadLetter], now: float) -> RenderableType:
    """Return the list of dead letters: id, age, error, state, and below each its topic and message."""
    rows = [
        Row(
            (entry.id, _age(entry, now), clean(entry.error), _state(entry)),
            _note(entry),
            _STYLES[entry.state],
        )
        for entry in entries
    ]
    return table(("id", "age", "error", ""), rows)


def _state(entry: DeadLetter) -> str:
    match entry.state:
        case DeadLetterState.QUARANTINED:
            return f"quarantined: failed {entry.redrives + 1} times"
        case DeadLetterState.REDRIVEN:
            return "sent again"
    return f"sent again {entry.redrives}×" if entry.redrives else ""


def _note(entry: DeadLetter) -> str:
    if entry.redriven is not None:
        return f"→ {clean(entry.redriven)}"
    return f"{clean(entry.topic)}  {' '.join(clean(entry.error_message).split())}".rstrip()


def _age(entry: DeadLetter, now: float) -> str:
    return format_duration(max(0.0, now - entry.dead_lettered_at))


def totals_line(entries: Sequence[DeadLetter], *, hidden: int) -> Text:
    """Return the line below the list: the number of dead letters by state."""
    counts = Counter(entry.state for entry in entries)
    waiting = counts[DeadLetterState.DEAD] + counts[DeadLetterState.QUARANTINED]
    line = plural(waiting, "dead letter")
    if counts[DeadLetterState.QUARANTINED]:
        line += f", {counts[DeadLetterState.QUARANTINED]} of them quarantined"
    if counts[DeadLetterState.REDRIVEN]:
        line += f", {counts[DeadLetterState.REDRIVEN]} sent again{' (--all shows them)' if hidden else ''}"
    return Text(line, style="dim")


def outcome_line(outcome: RedriveOutcome) -> Text:
    """Return one line about a redriven dead letter: the new position, or the reason why it was not sent."""
    if outcome.refused is not None:
        return Text.assemble(("not sent ", "yellow"), clean(outcome.refused))
    where = outcome.entry.topic if outcome.sent is None else str(outcome.sent)
    return Text.assemble((outcome.entry.id, "cyan"), f" ({clean(outcome.entry.error)}) → {clean(where)}")


def dead_letter_page(entry: DeadLetter, now: float) -> RenderableType:
    """Return everything about one dead letter."""
    return Group(
        Text.assemble(
            (entry.id, "bold cyan"),
            (f"  {_age(entry, now)} ago", "dim"),
            (f"  {_state(entry)}".rstrip(), _STYLES[entry.state]),
        ),
        Padding(_grid(_facts(entry)), (0, 0, 1, 2)),
        _title("headers"),
        Padding(_grid((name, _text(value)) for name, value in entry.headers), (0, 0, 1, 2)),
        _title("body"),
        Padding(render_body(entry.record.value), (0, 0, 1, 2)),
        _title("traceback"),
        Padding(Text(clean(entry.record.header(DEAD_TRACEBACK) or "none").rstrip(), style="dim"), (0, 0, 0, 2)),
    )


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _grid(rows: Iterator[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(clean(name), Text(value))
    return grid


def _facts(entry: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "error", f"{clean(entry.error)}: {clean(entry.error_message)}"
    yield "from", clean(entry.topic)
    yield "key", "none" if entry.record.key is None else _text(entry.record.key)
    for name, header in (
        ("original", ORIGIN),
        ("attempts", ATTEMPT),
        ("worker", DEAD_WORKER),
        ("failed at", DEAD_POSITION),
    ):
        if (value := entry.record.header(header)) is not None:
            yield name, clean(value)
    if entry.redriven is not None:
        yield "sent again", clean(entry.redriven)
    if entry.duplicates:
        yield "duplicates", ", ".join(sorted(entry.ids - {entry.id}))


def _text(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    try:
        return clean(raw.decode())
    except UnicodeDecodeError:
        return f"{raw[:BYTES_PER_LINE].hex(' ')} …" if len(raw) > BYTES_PER_LINE else raw.hex(" ")


def render_body(value: bytes | None) -> RenderableType:
    """Render a body: JSON indented, anything else as a hex dump."""
    if value is None:
        return Text("null (a deletion)", style="dim")
    try:
        return JSON(clean(json.dumps(json.loads(value), ensure_ascii=False)))
    except (ValueError, RecursionError):
        return Text(hexdump(value)) if value else Text("empty", style="dim")


def hexdump(value: bytes, most: int = MAX_DUMP_BYTES) -> str:
    """Return a hex dump in the format of `hexdump -C`, of the first `most` bytes."""
    lines = []
    for start in range(0, min(len(value), most), BYTES_PER_LINE):
        row = value[start : start + BYTES_PER_LINE]
        text = "".join(chr(byte) if byte in PRINTABLE else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<{BYTES_PER_LINE * 3 - 1}}  |{text}|")
    if len(value) > most:
        lines.append(f"… {len(value) - most} more bytes")
    return "\n".join(lines)
