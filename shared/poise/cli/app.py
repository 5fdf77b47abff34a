"""The table of commands. Each is imported when it is called, so that `poise --help` and `poise ask` start fast.

Other packages add commands by an entry point of the group `poise.commands` that names a table of the same form.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

USE: Final = "Use"
RUN_PANEL: Final = "Run"
INSPECT_PANEL: Final = "Look inside"

CommandTable = dict[str, tuple[str, str, str]]
"""By command: its panel in the help, what it does, and `module:name` of a function or of a Typer."""

_OWN: Final[CommandTable] = {
    "ask": (USE, "Ask a question; show the answer, its sources and how it was made.", "poise.cli.ask:ask"),
    "ingest": (USE, "Put text and Markdown files into the corpus.", "poise.cli.ingest:ingest"),
    "feedback": (USE, "Give feedback on an answer.", "poise.cli.feedback:feedback"),
    "up": (RUN_PANEL, "Start the stack on this machine, or the workers alone.", "poise.cli.up:up"),
    "down": (RUN_PANEL, "Stop the stack.", "poise.cli.up:down"),
    "status": (RUN_PANEL, "Show what runs, where, and since when.", "poise.cli.up:status"),
    "worker": (RUN_PANEL, "Run a worker of a custom tier, from its file.", "poise.cli.worker:worker"),
    "topics": (RUN_PANEL, "Show, apply and check the table of topics.", "poise.cli.topics:app"),
    "cancel": (RUN_PANEL, "Stop a run on every worker.", "poise.cli.cancel:cancel"),
    "policy": (
        RUN_PANEL,
        "Show, set, hold and revert the weights of variants; explain why they moved.",
        "poise.cli.policy:app",
    ),
    "trace": (INSPECT_PANEL, "Show a run as a tree with times: which tier was slow?", "poise.cli.trace:trace"),
    "scores": (INSPECT_PANEL, "Show how well each variant answers.", "poise.cli.scores:scores"),
    "dlq": (INSPECT_PANEL, "List, show, redrive and purge dead letters.", "poise.cli.dlq:app"),
    "cache": (INSPECT_PANEL, "Show how much cached answers save; purge them.", "poise.cli.cache:app"),
    "schema": (INSPECT_PANEL, "Print the contract: AsyncAPI and JSON Schemas.", "poise.cli.schema:app"),
    "version": (INSPECT_PANEL, "Print the version of Poise.", "poise.cli.version:version"),
}


def _commands() -> CommandTable:
    """Return every command; those of other packages come first in their panels."""
    tables = [*(entry.load() for entry in entry_points(group="poise.commands")), _OWN]
    merged = [item for table in tables for item in table.items()]
    panels = [USE, RUN_PANEL, INSPECT_PANEL]
    merged.sort(key=lambda item: panels.index(item[1][0]) if item[1][0] in panels else len(panels))
    return dict(merged)


COMMANDS: Final = _commands()

DOCS: Final = "An async, message-driven mesh for AI applications that checks and measures its answers."


class CommandGroup(TyperGroup):
    """The commands of the table: names and help at once, the code of the one that is called.

    An error that Poise raises on purpose becomes one line on stderr; anything else is a bug and keeps its traceback.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (panel, help_, _) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=help_, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in COMMANDS else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from poise.cli.errors import report_error  # noqa: PLC0415 - not needed unless something goes wrong

            code = report_error(error)
            if code is None:
                raise
            raise typer.Exit(code) from error


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name][2].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False)
        found.command(name)(function)
    return typer.main.get_command(found)


app = typer.Typer(
    cls=CommandGroup,
    help=DOCS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug's traceback is for a bug report: plain, without values that may be secret
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Run the command `poise`."""
    app(prog_name="poise")
