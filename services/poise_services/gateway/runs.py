"""Runs: what became of a run, read from the records, or that it is still under way here."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import ClassVar, Final, Literal

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from poise.contracts import Fault, Message, RunRecord
from poise.contracts.run_id import is_run_id, run_started_at
from poise.contracts.topics import BATCH, DAY, HOUR, RECORDS
from poise.errors import PoiseError, RunCancelledError
from poise.run_log.lookup import LookupLimits, RunLog
from poise.worker.connection import MeshConnection
from poise_services.gateway.problems import NotFoundError
from poise_services.gateway.settings import GatewaySettings
from poise_services.gateway.write_limits import WriteRateLimiter

MAX_FINISHED_RUNS: Final = 4_096
"""How many runs of its own a gateway knows after they have ended: their records may take a moment to be written."""
MAX_DETAIL_CHARS: Final = 2_000
"""Characters that are known of why one of them ended in a fault."""
ANSWERED: Final = "answered"
FAULT_TYPE_PREFIX: Final = "urn:poise:"
MAX_CLOCK_SKEW: Final = 60.0
"""Seconds by which the clocks of two gateways may differ."""
RECORD_RETENTION: Final = RECORDS.keep or 0.0
LOOKUP_TIMEOUT: Final = 10.0
"""Seconds in which the record of a run must be found, waiting for others' look-ups included."""


class RunView(Message):
    """A run, as `GET /v1/runs/{id}` shows it."""

    kind: ClassVar[str] = "run-view/1"

    run_id: str
    status: Literal["running", "finished"]
    """Finished = there is an answer or a fault; its record follows within moments."""
    outcome: str | None = None
    """How it ended: `answered`, else the type of its fault without `urn:poise:`, such as `deadline-exceeded` or
    `cancelled`; absent while it runs."""
    fault: Fault | None = None
    """Why there is no answer; absent where there is one."""
    record: RunRecord | None = None


class CancelResponse(Message):
    """A run that every worker was told to stop."""

    kind: ClassVar[str] = "cancelled-run/1"

    run_id: str


class RunEndpoints:
    """The runs that began here, and those that left a record."""

    def __init__(self, mesh: MeshConnection, settings: GatewaySettings, writes: WriteRateLimiter) -> None:
        self._mesh = mesh
        self._writes = writes
        self._lookups = asyncio.Semaphore(settings.concurrent_lookups)
        self._searches = asyncio.Semaphore(settings.concurrent_searches)
        self._running: set[str] = set()
        self._finished: OrderedDict[str, Fault | None] = OrderedDict()
        """By run, what its client was told instead of an answer."""

    @contextmanager
    def track(self, run: str) -> Iterator[None]:
        """Know a run as under way, and afterwards as finished, and how."""
        self._running.add(run)
        fault: Fault | None = None
        try:
            yield
        except BaseException as error:
            fault = _fault_of(error)
            raise
        finally:
            self._running.discard(run)
            self._finished[run] = fault
            if len(self._finished) > MAX_FINISHED_RUNS:
                self._finished.popitem(last=False)

    async def show(self, request: Request) -> Response:
        """Answer `GET /v1/runs/{id}`.

        Raises:
            NotFoundError: There is no such run, or no record of it any more.
            RetryableError: It takes too long to look for its record now.
            UnavailableError: The records cannot be read.
        """
        run = request.path_params["id"]
        view = await self._view(run)
        if view is None:
            raise NotFoundError(
                f"run {run[:80]}: there is no record of it; they are kept for {RECORD_RETENTION / DAY:g} days"
            )
        return Response(view.encode(), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Answer `DELETE /v1/runs/{id}`.

        Raises:
            NotFoundError: It can be no run's id, or by its id it has ended long ago or has not begun.
            RateLimitedError: Too many runs that are not under way here were cancelled lately.
            UnavailableError: The broker did not take it.
        """
        run = request.path_params["id"]
        if not is_run_id(run):
            raise NotFoundError(f"run {run[:80]}: there can be no run of that id")
        if not may_be_running(run, time.time()):
            raise NotFoundError(f"run {run}: it is not under way: no run takes longer than {BATCH.longest / HOUR:g} h")
        if run not in self._running:
            self._writes.count_unknown_cancel(request)
        await self._mesh.rpc.cancel(run)
        return Response(CancelResponse(run_id=run).encode(), HTTPStatus.ACCEPTED, media_type="application/json")

    async def _view(self, run: str) -> RunView | None:
        if run in self._running:
            return RunView(run_id=run, status="running")
        if not may_have_record(run, time.time()):
            return None
        record = await self._record(run)
        if run in self._finished:
            fault = self._finished[run]  # what its client was told
        elif record is not None:
            fault = record.fault
        else:
            return None
        outcome = ANSWERED if fault is None else fault.type.removeprefix(FAULT_TYPE_PREFIX)
        return RunView(run_id=run, status="finished", outcome=outcome, fault=fault, record=record)

    async def _record(self, run: str) -> RunRecord | None:
        """The last record of a run, if it is this tenant's.

        Raises:
            RetryableError: It takes too long to look for it now.
        """
        limits = LookupLimits(LOOKUP_TIMEOUT, near=self._lookups, far=self._searches)
        record = await RunLog(self._mesh.logs, self._mesh.settings.clock_skew, limits).record(run)
        return record if record is not None and record.tenant == self._mesh.settings.tenant else None


def _fault_of(error: BaseException) -> Fault:
    """What a client is told, or would be if it were still there."""
    if isinstance(error, ClientDisconnect | asyncio.CancelledError):
        error = RunCancelledError("its client has gone")
    fault = (error if isinstance(error, PoiseError) else PoiseError("the gateway failed on it")).fault()
    return fault.model_copy(update={"detail": fault.detail[:MAX_DETAIL_CHARS]})


def may_be_running(run: str, now: float) -> bool:
    """Whether cancelling a run can have an effect; its id may tell that it cannot."""
    began = run_started_at(run)
    return began is None or now - BATCH.longest - MAX_CLOCK_SKEW <= began <= now + MAX_CLOCK_SKEW


def may_have_record(run: str, now: float) -> bool:
    """Whether looking is worth the while: it is a run's id, and not from a time of which no records are kept."""
    began = run_started_at(run)
    return is_run_id(run) and (began is None or now - RECORD_RETENTION - DAY <= began <= now + HOUR)
