"""The command line: `poise …`."""
