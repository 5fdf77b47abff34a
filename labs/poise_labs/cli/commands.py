"""The table of the labs' commands, which `poise` finds by its entry point."""

from typing import Final

LABS: Final = "Labs"

COMMANDS: Final = {
    "demo": ("Use", "Start a stack, ingest a corpus, ask three questions.", "poise_labs.cli.demo:demo"),
    "drill": (LABS, "Stop one part after another, and show the answers.", "poise_labs.cli.drill:drill"),
    "balance": (
        LABS,
        "A variant gets worse without errors; the mesh moves its weight.",
        "poise_labs.cli.balance:balance",
    ),
    "lab": (LABS, "Degrade a variant with the loop on and off, and compare.", "poise_labs.cli.lab:app"),
}
