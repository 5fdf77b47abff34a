"""Injections: what a stranger or an operator does to the mesh while it works; each is logged with what came of it."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.soak.load import Load

LONGEST: Final = 150.0
"""Seconds after which an injection has failed."""


class UnexpectedError(Exception):
    """The mesh did something else than it promises."""


Inject = Callable[[Load, random.Random], Awaitable[str]]
"""Does it, waits for what came of it, and says that in a few words.

Raises:
    UnexpectedError: It is not what is promised.
"""


@dataclass
class Injected:
    """One injection."""

    kind: str
    began: float
    """Unix seconds."""
    ended: float = 0.0
    result: str = ""
    right: bool = True


@dataclass
class Injector:
    """Injects every kind equally often, in an order that a seed gives.

    Args:
        load: The load beside which it happens.
        kinds: What is injected, by name.
        seed: Gives the order, and each injection's own choices.
        log: A file, to which a line of JSON is added for each injection as it ends.
    """

    load: Load
    kinds: Mapping[str, Inject]
    seed: int
    log: Path
    done: list[Injected] = field(default_factory=list)

    async def run(self, rounds: int, seconds: float) -> None:
        """Inject each kind once a round, the rounds spread over a duration; slow ones overlap."""
        chance = random.Random(self.seed)
        order = [kind for _ in range(rounds) for kind in chance.sample(sorted(self.kinds), len(self.kinds))]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(order):
                await asyncio.sleep(max(0.0, began + number * seconds / len(order) - time.monotonic()))
                group.create_task(self.once(kind, self.kinds[kind], random.Random(chance.random())))

    async def once(self, kind: str, inject: Inject, chance: random.Random) -> Injected:
        """Inject, and log it."""
        one = Injected(kind, time.time())
        self.done.append(one)
        try:
            async with asyncio.timeout(LONGEST):
                one.result = await inject(self.load, chance)
        except Exception as error:  # noqa: BLE001 - whatever it is, the report has it, and the soak goes on
            one.result, one.right = f"{type(error).__name__}: {error}"[:300], False
        one.ended = time.time()
        with self.log.open("a") as file:
            file.write(json.dumps(vars(one)) + "\n")
        return one
