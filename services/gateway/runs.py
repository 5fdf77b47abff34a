"""Runs: what became of a run, read from the records, or that it is still under way here."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import ClassVar, Final, Literal

from fastapi import Request, Response
from pydantic import ValidationError

from poise.contracts import Message, RunRecord
from poise.contracts.run_id import is_run_id, started_at
from poise.contracts.topics import DAY, HOUR, RECORDS
from poise.errors import SetupError, TerminalError, UnavailableError
from poise.messaging import Mesh
from services.gateway.problems import NotFoundError
from services.gateway.settings import GatewaySettings

REMEMBERED: Final = 4_096
"""How many runs of its own a gateway knows after they have ended: their records may take a moment to be written."""
KEPT: Final = RECORDS.keep or 0.0


class RunView(Message):
    """A run, as `GET /v1/runs/{id}` shows it."""

    kind: ClassVar[str] = "run-view/1"

    run_id: str
    status: Literal["running", "finished"]
    """Finished = there is an answer or a fault; its record follows within moments."""
    record: RunRecord | None = None


class CancelledRun(Message):
    """A run that every worker was told to stop."""

    kind: ClassVar[str] = "cancelled-run/1"

    run_id: str


class Runs:
    """The runs that began here, and those that left a record."""

    def __init__(self, mesh: Mesh, settings: GatewaySettings) -> None:
        self._mesh = mesh
        self._lookups = asyncio.Semaphore(settings.lookups)
        self._running: set[str] = set()
        self._finished: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def running(self, run: str) -> Iterator[None]:
        """Know a run as under way, and afterwards as finished."""
        self._running.add(run)
        try:
            yield
        finally:
            self._running.discard(run)
            self._finished[run] = None
            if len(self._finished) > REMEMBERED:
                self._finished.popitem(last=False)

    async def show(self, request: Request) -> Response:
        """Answer `GET /v1/runs/{id}`.

        Raises:
            NotFoundError: There is no such run, or no record of it any more.
            UnavailableError: The records cannot be read.
        """
        run = request.path_params["id"]
        view = await self._view(run)
        if view is None:
            raise NotFoundError(f"run {run[:80]}: there is no record of it; they are kept for {KEPT / DAY:g} days")
        return Response(view.encode(), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Answer `DELETE /v1/runs/{id}`.

        Raises:
            NotFoundError: It can be no run's id.
            UnavailableError: The broker did not take it.
        """
        run = request.path_params["id"]
        if not is_run_id(run):
            raise NotFoundError(f"run {run[:80]}: there can be no run of that id")
        await self._mesh.cancel(run)
        return Response(CancelledRun(run_id=run).encode(), HTTPStatus.ACCEPTED, media_type="application/json")

    async def _view(self, run: str) -> RunView | None:
        if run in self._running:
            return RunView(run_id=run, status="running")
        if not may_have_a_record(run, time.time()):
            return None
        record = await self._record(run)
        if record is not None or run in self._finished:
            return RunView(run_id=run, status="finished", record=record)
        return None

    async def _record(self, run: str) -> RunRecord | None:
        """The last record of a run, if it is this tenant's."""
        try:
            async with self._lookups:
                found = await self._mesh.read_key(RECORDS.name, run, since=started_at(run))
        except (SetupError, TimeoutError) as error:
            raise UnavailableError(f"the records cannot be read: {error or 'no answer in time'}") from error
        values = [record.value for record in found if record.value is not None]
        if not values:
            return None
        try:
            record = RunRecord.parse(values[-1])
        except ValidationError as error:
            raise TerminalError(f"the record of run {run} cannot be read: {error}") from error
        return record if record.tenant == self._mesh.settings.tenant else None


def may_have_a_record(run: str, now: float) -> bool:
    """Whether looking is worth the while: it is a run's id, and not from a time of which no records are kept."""
    began = started_at(run)
    return is_run_id(run) and (began is None or now - KEPT - DAY <= began <= now + HOUR)
