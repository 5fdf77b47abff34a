"""`python -m poise`: the command line."""

import poise.system.sigterm  # noqa: F401 - first: from here on it is heard
from poise.cli.app import main

if __name__ == "__main__":
    main()
