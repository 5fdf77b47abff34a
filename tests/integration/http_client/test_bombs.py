"""A small response of a server uses bounded memory when it is decompressed and parsed, as a whole or as a stream."""

import asyncio
import json
import sys
from pathlib import Path

KIT = Path(__file__).parents[2] / "kit"
ROOT = KIT.parents[1]
MEGABYTES = 100
"""The memory of two copies of the longest stream, its text and a hundred thousand parsed values."""


async def test_bombs_are_refused_and_cost_little_memory() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(KIT / "bombed_clients.py"),
        env={"PYTHONPATH": ":".join(map(str, (ROOT, ROOT / "shared", KIT)))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    told = json.loads(out)
    assert len(told["said"]) == 30
    assert not {name: said for name, said in told["said"].items() if not said.startswith(SAYS[name.split(", ")[1]])}
    assert not {name: grew for name, grew in told["grew"].items() if grew > MEGABYTES}


MANY = (
    "BackendFailedError: backend default answered more than",
    "ApiRefusedError: integration weather answered more than",
)
NOT_READ = (
    "BackendFailedError: backend default sent a response that cannot be read: ",
    "ApiFailedError: integration weather sent a response that cannot be read: ",
)
NO_ANSWER = (
    "BackendFailedError: backend default answered 200 without a completion in it (",
    "ApiFailedError: integration weather answered 200 with more than 100000 values",
)
SAYS = {
    "gzip": MANY,
    "deflate": MANY,
    "raw deflate": NOT_READ,
    "gzip in gzip": NOT_READ,
    "five times": NOT_READ,
    "br": NOT_READ,
    "zstd": NOT_READ,
    "values": (*NO_ANSWER, *MANY),
    "values in gzip": (*NO_ANSWER, *MANY),
    "plain": MANY,
}
