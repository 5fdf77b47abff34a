"""Dead letters on a screen. Pure."""

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
from poise.dead_letters import model
from poise.dead_letters.model import DeadLetter, DeadLetterState
from poise.dead_letters.redrive_plan import RedriveOutcome

MAX_DUMP_BYTES: Final = 4_096
"""Bytes of a body that are shown where it is not JSON."""
BYTES_PER_LINE: Final = 16
_STYLES: Final[Mapping[DeadLetterState, str]] = {
    DeadLetterState.DEAD: "red",
    DeadLetterState.QUARANTINED: "bold yellow",
    DeadLetterState.REDRIVEN: "dim",
}
PRINTABLE: Final = range(0x20, 0x7F)


def dead_letters_table(letters: Sequence[DeadLetter], now: float) -> RenderableType:
    """The list of dead letters: what each died of, where from, and what was said."""
    rows = [
        Row(
            (letter.id, _age(letter, now), clean(letter.error), _standing(letter)),
            _said(letter),
            _STYLES[letter.state],
        )
        for letter in letters
    ]
    return table(("id", "age", "error", ""), rows)


def _standing(letter: DeadLetter) -> str:
    match letter.state:
        case DeadLetterState.QUARANTINED:
            return f"quarantined: died {letter.redrives + 1} times"
        case DeadLetterState.REDRIVEN:
            return "sent again"
    return f"sent again {letter.redrives}×" if letter.redrives else ""


def _said(letter: DeadLetter) -> str:
    if letter.redriven is not None:
        return f"→ {clean(letter.redriven)}"
    return f"{clean(letter.topic)}  {' '.join(clean(letter.message).split())}".rstrip()


def _age(letter: DeadLetter, now: float) -> str:
    return format_duration(max(0.0, now - letter.at))


def totals_line(letters: Sequence[DeadLetter], *, hidden: int) -> Text:
    """The line below the list: how many there are, and what can be done."""
    counts = Counter(letter.state for letter in letters)
    waiting = counts[DeadLetterState.DEAD] + counts[DeadLetterState.QUARANTINED]
    line = plural(waiting, "dead letter")
    if counts[DeadLetterState.QUARANTINED]:
        line += f", {counts[DeadLetterState.QUARANTINED]} of them quarantined"
    if counts[DeadLetterState.REDRIVEN]:
        line += f", {counts[DeadLetterState.REDRIVEN]} sent again{' (--all shows them)' if hidden else ''}"
    return Text(line, style="dim")


def outcome_line(outcome: RedriveOutcome) -> Text:
    """What became, or would become, of a letter that was to be sent again."""
    if outcome.refused is not None:
        return Text.assemble(("not sent ", "yellow"), clean(outcome.refused))
    where = outcome.letter.topic if outcome.sent is None else str(outcome.sent)
    return Text.assemble((outcome.letter.id, "cyan"), f" ({clean(outcome.letter.error)}) → {clean(where)}")


def dead_letter_page(letter: DeadLetter, now: float) -> RenderableType:
    """One dead letter, whole."""
    return Group(
        Text.assemble(
            (letter.id, "bold cyan"),
            (f"  {_age(letter, now)} ago", "dim"),
            (f"  {_standing(letter)}".rstrip(), _STYLES[letter.state]),
        ),
        Padding(_grid(_facts(letter)), (0, 0, 1, 2)),
        _title("headers"),
        Padding(_grid((name, _shown(value)) for name, value in letter.headers), (0, 0, 1, 2)),
        _title("body"),
        Padding(render_body(letter.record.value), (0, 0, 1, 2)),
        _title("traceback"),
        Padding(Text(clean(letter.record.header(model.TRACEBACK) or "none").rstrip(), style="dim"), (0, 0, 0, 2)),
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
        ("first copy", model.ORIGIN),
        ("attempts", model.ATTEMPT),
        ("worker", model.WORKER),
        ("died at", model.POSITION),
    ):
        if (value := letter.record.header(header)) is not None:
            yield name, clean(value)
    if letter.redriven is not None:
        yield "sent again", clean(letter.redriven)
    if letter.copies:
        yield "copies", ", ".join(sorted(letter.ids - {letter.id}))


def _shown(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    try:
        return clean(raw.decode())
    except UnicodeDecodeError:
        return f"{raw[:BYTES_PER_LINE].hex(' ')} …" if len(raw) > BYTES_PER_LINE else raw.hex(" ")


def render_body(value: bytes | None) -> RenderableType:
    """A body as it is best read: JSON laid out, else its bytes."""
    if value is None:
        return Text("null (a deletion)", style="dim")
    try:
        return JSON(clean(json.dumps(json.loads(value), ensure_ascii=False)))
    except (ValueError, RecursionError):
        return Text(hexdump(value)) if value else Text("empty", style="dim")


def hexdump(value: bytes, most: int = MAX_DUMP_BYTES) -> str:
    """Bytes as `hexdump -C` has them."""
    lines = []
    for start in range(0, min(len(value), most), BYTES_PER_LINE):
        row = value[start : start + BYTES_PER_LINE]
        text = "".join(chr(byte) if byte in PRINTABLE else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<{BYTES_PER_LINE * 3 - 1}}  |{text}|")
    if len(value) > most:
        lines.append(f"… {len(value) - most} bytes more")
    return "\n".join(lines)
