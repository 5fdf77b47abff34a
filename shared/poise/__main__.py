"""`python -m poise`: the command line."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.cli.app import main

if __name__ == "__main__":
    main()
