"""`python -m poise`: the command line."""

from poise.cli.app import main

if __name__ == "__main__":
    main()
