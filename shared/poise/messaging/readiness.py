"""Readiness: what must be so before a process is given work, the broker's answering among it."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from poise.contracts.topics import CATALOGUE
from poise.errors import SetupError, UnavailableError
from poise.messaging.admin import Admin

log = logging.getLogger(__name__)

PROBED_EVERY: Final = 5.0
"""Seconds between two questions to the broker."""


class Readiness:
    """The conditions of one process; `async with`, to see the broker and its topics now, and the broker from then on.

    Raises:
        SetupError: Topics are missing.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._conditions: dict[str, Callable[[], bool]] = {}
        self._answers = False
        self._probing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """See that the topics are there, then begin to probe."""
        missing = sorted(CATALOGUE.keys() - (await self._admin.refresh()).keys())
        if missing:
            raise SetupError(f"topics are missing ({', '.join(missing)}): create them with `poise topics apply`")
        self._answers = True
        self._probing = asyncio.create_task(self._probe())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Probe no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    @property
    def broker_answers(self) -> bool:
        """Whether the broker answered when it was last asked."""
        return self._answers

    def when(self, name: str, check: Callable[[], bool]) -> None:
        """Add a condition."""
        self._conditions[name] = check

    def now(self) -> dict[str, bool]:
        """The conditions, and which are met."""
        return {name: check() for name, check in self._conditions.items()}

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBED_EVERY)
            try:
                await self._admin.refresh()
                self._answers = True
            except UnavailableError as error:
                if self._answers:
                    log.warning("%s", error)
                self._answers = False
