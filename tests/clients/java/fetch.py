"""Fetches the jars of `client.jars` into a folder and rejects wrong checksums: `fetch.py FOLDER`."""

import sys
from pathlib import Path

from poise.stack import jars

LIST = Path(__file__).with_name("client.jars")

if __name__ == "__main__":
    jars.JarStore(Path(sys.argv[1]), jars.parse_jar_list(LIST.read_text(encoding="utf-8"))).ensure(lambda _: None)
