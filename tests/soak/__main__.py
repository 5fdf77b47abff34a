"""The soak: random injections of attackers and operators while clients ask: `python -m tests.soak`.

It succeeds if every accepted request got its answer or fault in time, no client received forged text, each injection
had a promised result, every process is ready, and memory is flat.
"""

import argparse
import asyncio
import functools
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import httpx2
from chaos_kit import settled
from two_node_mesh import TwoNodeMesh, started_mesh

from poise.client import Poise
from poise.settings import MeshSettings
from tests.soak import by_http, by_kafka, by_operator, large_replies
from tests.soak.injection import Inject, Injector
from tests.soak.load import DEADLINE, SLACK, Replies, SoakLoad
from tests.soak.memory import Memory
from tests.soak.report import Report

KINDS: Final[Mapping[str, Inject]] = {
    "oversized documents": by_http.oversized_documents,
    "slow pattern": by_http.slow_pattern,
    "slow language": by_http.slow_language,
    "epoch beyond the end": by_http.epoch_beyond_the_end,
    "number in a request": by_http.number_in_a_request,
    "slow clients": by_http.slow_clients,
    "number in a header": by_kafka.number_in_a_header,
    "number in a record": by_kafka.number_in_a_record,
    "forged reply": by_kafka.forged_reply,
    "forged stream": by_kafka.forged_stream,
    "codec": by_kafka.codec,
    "undecodable batch": by_kafka.undecodable_batch,
    "open transaction": by_kafka.open_transaction,
    "large reply": by_kafka.large_reply,
    "topic recreated": by_operator.topic_recreated,
}
WITHOUT_LEADER: Final = "partition without leader"
ROUNDS_A_MINUTE: Final = 0.75


async def soak(minutes: float, rate: float, seed: int, folder: Path, log: Path) -> Report:
    """Run the injections and the load; return the report."""
    async with AsyncExitStack() as stack:
        played = await stack.enter_async_context(started_mesh(folder, seed, custom=Path(large_replies.__file__)))
        timeout = DEADLINE + SLACK
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=played.gateway_url, timeout=timeout))
        settings = MeshSettings(broker=played.bootstrap, spans=False)
        poise = await stack.enter_async_context(Poise(settings=settings))
        replies = await stack.enter_async_context(Replies(played.bootstrap))
        load, memory = SoakLoad(played, http, poise, replies), Memory(played)
        injector = Injector(load, KINDS, seed, log)
        began = time.time()
        background = [asyncio.create_task(load.run(rate)), asyncio.create_task(memory.sample())]
        leaderless = asyncio.create_task(_without_leader(injector, played, time.monotonic() + minutes * 60))
        await injector.run(max(1, round(minutes * ROUNDS_A_MINUTE)), minutes * 60)
        await leaderless
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        await load.finish()
        unsettled = await _wait_until_settled(played.bootstrap)
        readiness = await played.readiness()
        for task in background:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        deaths = dict(played.supervisor.deaths)
        return Report(seed, (began, time.time()), load, injector.done, readiness, deaths, memory, unsettled)


async def _wait_until_settled(bootstrap: str) -> str | None:
    """Wait until every group has handled its records; return the groups that have not, or None."""
    try:
        await settled(bootstrap)
    except TimeoutError as error:
        return str(error)
    return None


async def _without_leader(injector: Injector, played: TwoNodeMesh, until: float) -> None:
    """Stop the second node repeatedly; each time takes over a minute, so it is not part of the rounds."""
    while time.monotonic() < until:
        inject = functools.partial(_inject_without_leader, played)
        await injector.once(WITHOUT_LEADER, inject, random.Random(injector.seed))
        await asyncio.sleep(5.0)


async def _inject_without_leader(played: TwoNodeMesh, _load: SoakLoad, _chance: random.Random) -> str:
    return await by_operator.without_leader(played)


def main() -> None:
    """Run the soak, print the report, and exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2.0, help="asks a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="a folder for logs and data")
    parser.add_argument(
        "--log", type=Path, default=Path("build/soak.jsonl"), help="a file for the results of all injections"
    )
    arguments = parser.parse_args()
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    arguments.log.write_text("")
    with tempfile.TemporaryDirectory(prefix="poise-soak-") as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(soak(arguments.minutes, arguments.rate, arguments.seed, folder, arguments.log))
    sys.stdout.write(report.text())
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
