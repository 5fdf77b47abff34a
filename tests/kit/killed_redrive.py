"""A process that redrives a dead letter and kills itself: `python killed_redrive.py PLACE ID`.

POISE_BROKER names the broker. Places: `copy` (the copy is written, but not its marker), `marker` (both are written, but
not committed), `committed` (both are committed, but nobody was notified).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter
from poise.dead_letters.redrive_plan import RedriveOptions
from poise.kafka.transactions import Transaction
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

Method = Callable[..., Awaitable[Any]]


def killing(method: Method, *, after: int) -> Method:
    """Return the method, extended so that it kills this process after that number of calls."""
    done = 0

    async def method_then_kill(*arguments: Any) -> Any:
        nonlocal done
        found = await method(*arguments)
        done += 1
        if done == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return method_then_kill


async def main(place: str, id_: str) -> None:
    """Redrive the dead letter until this process kills itself."""
    if place == "committed":
        method = killing(AIOKafkaProducer.commit_transaction, after=1)
        AIOKafkaProducer.commit_transaction = method  # type: ignore[method-assign,assignment]
    else:
        method = killing(Transaction.send, after=1 if place == "copy" else 2)
        Transaction.send = method  # type: ignore[method-assign,assignment]
    async with WorkerRuntime(MeshSettings(), tier="cli") as mesh:
        async for outcome in DeadLetterAdmin(mesh.logs, mesh.settings.tenant).redrive(
            DeadLetterFilter(ids=frozenset({id_})), RedriveOptions()
        ):
            raise AssertionError(outcome)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
