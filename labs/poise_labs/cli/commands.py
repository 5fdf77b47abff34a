"""The table of the labs' commands, which `poise` finds by its entry point."""

from typing import Final

LABS: Final = "Labs"

COMMANDS: Final = {
    "demo": ("Use", "See it work: start a stack, ingest a corpus, ask three questions.", "poise_labs.cli.demo:demo"),
    "drill": (LABS, "Break one part after another, and see what a reader gets.", "poise_labs.cli.drill:drill"),
    "balance": (LABS, "A variant gets quietly worse: the mesh notices, and moves.", "poise_labs.cli.balance:balance"),
    "lab": (LABS, "Make a part do worse, with the loop on and off: who was hurt?", "poise_labs.cli.lab:app"),
}
