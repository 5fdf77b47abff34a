"""Shows an answer while it is generated: its text, dim because it is provisional, and the reason of a reset."""

from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from poise.cli.answer_view import RUNG_STYLES
from poise.cli.text import clean
from poise.contracts.stream import Delta, Reset

MARGIN: Final = (0, 2)


class StreamView:
    """The text received so far, as a renderable."""

    def __init__(self) -> None:
        self._text = ""
        self._reset: Reset | None = None
        self._waiting = Spinner("dots", Text("asking …", style="dim"))

    def take(self, item: Delta | Reset) -> None:
        """Append text; or, at a reset, discard the text and show the reason."""
        if isinstance(item, Reset):
            self._reset, self._text = item, ""
            self._waiting.update(text=Text("trying again …", style="dim"))
        else:
            self._text += item.text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Use the layout of the final answer, so that the text does not move when the answer replaces it."""
        yield from console.render(Group(Text(), *self._lines(console, options)), options)

    def _lines(self, console: Console, options: ConsoleOptions) -> list[Padding]:
        lines = []
        if self._reset is not None:
            style = RUNG_STYLES.get(self._reset.rung or "", "yellow")
            reason = " ".join(clean(self._reset.reason).split())
            lines.append(Padding(Text.assemble(("reset: ", style), (reason, "dim")), MARGIN))
        if text := clean(self._text).strip():
            words = Text(text, style="dim")
            # If the text does not fit, show its last lines: the new ones.
            room = max(1, options.size.height - 3 - len(lines))
            shown = words.wrap(console, max(1, options.max_width - 2 * MARGIN[1]))[-room:]
            lines.extend(Padding(line, MARGIN) for line in shown)
        else:
            lines.append(Padding(self._waiting, MARGIN))
        return lines
