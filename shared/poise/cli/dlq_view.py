"""Dead letters on a screen. Pure."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.cli.listing import Row, listing
from poise.cli.text import clean, duration
from poise.messaging import DeadLetter, dead_letters

DUMPED: Final = 4_096
"""Bytes of a body that are shown where it is not JSON."""
ACROSS: Final = 16
PRINTABLE: Final = range(0x20, 0x7F)


def letters_list(letters: Sequence[DeadLetter], now: float) -> RenderableType:
    """The list of dead letters."""
    rows = []
    for letter in letters:
        said = letter.message if letter.redriven is None else f"sent again → {letter.redriven}"
        age = duration(max(0.0, now - letter.at))
        cells = letter.id, age, clean(letter.topic), clean(letter.error)
        rows.append(Row(cells, " ".join(clean(said).split()), "red" if letter.redriven is None else "dim"))
    return listing(("id", "age", "from", "error"), rows)


def letter_page(letter: DeadLetter, now: float) -> RenderableType:
    """One dead letter, whole."""
    return Group(
        Text.assemble((letter.id, "bold cyan"), (f"  {duration(max(0.0, now - letter.at))} ago", "dim")),
        Padding(_grid(_facts(letter)), (0, 0, 1, 2)),
        _title("headers"),
        Padding(_grid((name, _shown(value)) for name, value in letter.headers), (0, 0, 1, 2)),
        _title("body"),
        Padding(body(letter.record.value), (0, 0, 1, 2)),
        _title("traceback"),
        Padding(
            Text(clean(letter.record.header(dead_letters.TRACEBACK) or "none").rstrip(), style="dim"), (0, 0, 0, 2)
        ),
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


def _facts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "error", f"{clean(letter.error)}: {clean(letter.message)}"
    yield "from", clean(letter.topic)
    yield "key", "none" if letter.record.key is None else _shown(letter.record.key)
    for name, header in (
        ("first copy", dead_letters.ORIGIN),
        ("attempts", dead_letters.ATTEMPT),
        ("worker", dead_letters.WORKER),
        ("sent again before", dead_letters.REDRIVES),
    ):
        if (value := letter.record.header(header)) is not None:
            yield name, clean(value)
    if letter.redriven is not None:
        yield "sent again", clean(letter.redriven)


def _shown(raw: bytes) -> str:
    try:
        return clean(raw.decode())
    except UnicodeDecodeError:
        return f"{raw[:ACROSS].hex(' ')} …" if len(raw) > ACROSS else raw.hex(" ")


def body(value: bytes | None) -> RenderableType:
    """A body as it is best read: JSON laid out, else its bytes."""
    if value is None:
        return Text("null (a deletion)", style="dim")
    try:
        return JSON(clean(json.dumps(json.loads(value), ensure_ascii=False)))
    except (ValueError, RecursionError):
        return Text(hexdump(value)) if value else Text("empty", style="dim")


def hexdump(value: bytes, most: int = DUMPED) -> str:
    """Bytes as `hexdump -C` has them."""
    lines = []
    for start in range(0, min(len(value), most), ACROSS):
        row = value[start : start + ACROSS]
        text = "".join(chr(byte) if byte in PRINTABLE else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<{ACROSS * 3 - 1}}  |{text}|")
    if len(value) > most:
        lines.append(f"… {len(value) - most} bytes more")
    return "\n".join(lines)


def as_json_value(letter: DeadLetter, *, whole: bool) -> dict[str, Any]:
    """A dead letter for machines; bytes that are not UTF-8 are base64, in a field that says so."""
    found: dict[str, Any] = {
        "id": letter.id,
        "at": letter.at,
        "topic": letter.topic,
        "error": letter.error,
        "message": letter.message,
        "redriven": letter.redriven,
    }
    if whole:
        found |= _bytes("key", letter.record.key) | _bytes("value", letter.record.value)
        found["headers"] = [{"name": name} | _bytes("value", value) for name, value in letter.headers]
        found["traceback"] = letter.record.header(dead_letters.TRACEBACK)
        found["worker"] = letter.record.header(dead_letters.WORKER)
    return found


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
