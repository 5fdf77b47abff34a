"""Injections: actions of attackers and operators while the mesh is used; each is logged with its result."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.soak.load import SoakLoad

INJECTION_TIMEOUT: Final = 150.0
"""Seconds after which an injection has failed."""


class UnexpectedError(Exception):
    """The mesh broke a promise."""


Inject = Callable[[SoakLoad, random.Random], Awaitable[str]]
"""Performs the injection, waits for its effect and returns a short description of the result.

Raises:
    UnexpectedError: The result is not the promised one.
"""


@dataclass
class Injection:
    """One injection."""

    kind: str
    began: float
    """Unix seconds."""
    ended: float = 0.0
    result: str = ""
    as_promised: bool = True


@dataclass
class Injector:
    """Injects every kind equally often, in a seeded order.

    Args:
        load: The load during the injections.
        kinds: The injections by name.
        seed: The seed of the order and of the choices of each injection.
        log: A file that gets a line of JSON for each injection.
    """

    load: SoakLoad
    kinds: Mapping[str, Inject]
    seed: int
    log: Path
    done: list[Injection] = field(default_factory=list)

    async def run(self, rounds: int, seconds: float) -> None:
        """Inject each kind once a round, the rounds spread over a duration; slow ones overlap."""
        chance = random.Random(self.seed)
        order = [kind for _ in range(rounds) for kind in chance.sample(sorted(self.kinds), len(self.kinds))]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(order):
                await asyncio.sleep(max(0.0, began + number * seconds / len(order) - time.monotonic()))
                group.create_task(self.once(kind, self.kinds[kind], random.Random(chance.random())))

    async def once(self, kind: str, inject: Inject, chance: random.Random) -> Injection:
        """Perform an injection and log its result."""
        injection = Injection(kind, time.time())
        self.done.append(injection)
        try:
            async with asyncio.timeout(INJECTION_TIMEOUT):
                injection.result = await inject(self.load, chance)
        except Exception as error:  # noqa: BLE001 - the report has it, and the soak continues
            injection.result, injection.as_promised = f"{type(error).__name__}: {error}"[:300], False
        injection.ended = time.time()
        with self.log.open("a") as file:
            file.write(json.dumps(vars(injection)) + "\n")
        return injection
