"""Progress bars: some work, how much of it is done, and how long it took."""

from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclass(frozen=True, slots=True)
class ProgressBar:
    """One piece of work."""

    progress: Progress
    task: TaskID

    def advance(self, by: int = 1) -> None:
        """Say that more of it is done."""
        self.progress.advance(self.task, by)


class ProgressBars:
    """Bars below one another on a console; `with Bars(console) as bars: bar = bars.add("publish", 79)`.

    Where the console is no terminal, nothing is drawn.
    """

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw no more; what was drawn stays."""
        self._progress.stop()

    def add(self, what: str, total: int) -> ProgressBar:
        """Add a bar."""
        return ProgressBar(self._progress, self._progress.add_task(what, total=total))
