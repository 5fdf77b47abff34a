"""`GET` and `DELETE /v1/runs/{id}`: shows a run, from its record or because this gateway started it; cancels a run."""

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
"""Finished runs that a gateway remembers of those it started: their records may not be written yet."""
MAX_DETAIL_CHARS: Final = 2_000
"""Characters of a fault's detail that a gateway remembers."""
ANSWERED: Final = "answered"
FAULT_TYPE_PREFIX: Final = "urn:poise:"
MAX_CLOCK_SKEW: Final = 60.0
"""Seconds by which the clocks of two gateways may differ."""
RECORD_RETENTION: Final = RECORDS.retention or 0.0
"""Seconds for which the records of runs are retained."""
LOOKUP_TIMEOUT: Final = 10.0
"""Seconds to find the record of a run, including time queued behind other look-ups."""


class RunView(Message):
    """The response of `GET /v1/runs/{id}`."""

    kind: ClassVar[str] = "run-view/1"

    run_id: str
    status: Literal["running", "finished"]
    """`finished`: there is an answer or a fault; the record follows shortly."""
    outcome: str | None = None
    """`answered`, or the type of the fault without `urn:poise:`, such as `deadline-exceeded` or `cancelled`; absent
    while it runs."""
    fault: Fault | None = None
    """Why there is no answer; absent if there is one."""
    record: RunRecord | None = None


class CancelResponse(Message):
    """A run whose cancellation was sent to all workers."""

    kind: ClassVar[str] = "cancelled-run/1"

    run_id: str


class RunEndpoints:
    """Handles runs that this gateway started, and runs that have a record."""

    def __init__(self, mesh: MeshConnection, settings: GatewaySettings, writes: WriteRateLimiter) -> None:
        self._mesh = mesh
        self._writes = writes
        self._lookups = asyncio.Semaphore(settings.concurrent_lookups)
        self._searches = asyncio.Semaphore(settings.concurrent_searches)
        self._running: set[str] = set()
        self._finished: OrderedDict[str, Fault | None] = OrderedDict()
        """By run: the fault that its client received; None = it received an answer."""

    @contextmanager
    def track(self, run: str) -> Iterator[None]:
        """Register a run as running, and at the end as finished with its outcome."""
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
            NotFoundError: There is no such run, or its record has expired.
            RetryableError: The record was not found in time.
            UnavailableError: The records cannot be read.
        """
        run = request.path_params["id"]
        view = await self._view(run)
        if view is None:
            raise NotFoundError(
                f"run {run[:80]}: no record found; records are retained for {RECORD_RETENTION / DAY:g} days"
            )
        return Response(view.encode(), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Answer `DELETE /v1/runs/{id}`.

        Raises:
            NotFoundError: It is not a run id, or its timestamp shows that the run cannot be running.
            RateLimitedError: Too many runs that this gateway did not start were cancelled recently.
            UnavailableError: The broker did not accept the cancellation.
        """
        run = request.path_params["id"]
        if not is_run_id(run):
            raise NotFoundError(f"run {run[:80]}: not a run id")
        if not may_be_running(run, time.time()):
            raise NotFoundError(f"run {run}: not running: no run takes longer than {BATCH.longest / HOUR:g} h")
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
            fault = self._finished[run]  # what its client received
        elif record is not None:
            fault = record.fault
        else:
            return None
        outcome = ANSWERED if fault is None else fault.type.removeprefix(FAULT_TYPE_PREFIX)
        return RunView(run_id=run, status="finished", outcome=outcome, fault=fault, record=record)

    async def _record(self, run: str) -> RunRecord | None:
        """Return the last record of a run, if it belongs to this tenant.

        Raises:
            RetryableError: The record was not found in time.
        """
        limits = LookupLimits(LOOKUP_TIMEOUT, lookup_slots=self._lookups, search_slots=self._searches)
        record = await RunLog(self._mesh.logs, self._mesh.settings.clock_skew, limits).record(run)
        return record if record is not None and record.tenant == self._mesh.settings.tenant else None


def _fault_of(error: BaseException) -> Fault:
    """Return the fault that the client receives, or would receive if it were still connected."""
    if isinstance(error, ClientDisconnect | asyncio.CancelledError):
        error = RunCancelledError("the client disconnected")
    fault = (error if isinstance(error, PoiseError) else PoiseError("the gateway failed on the run")).fault()
    return fault.model_copy(update={"detail": fault.detail[:MAX_DETAIL_CHARS]})


def may_be_running(run: str, now: float) -> bool:
    """Return whether a run may be running, judged by the start time in its id."""
    started = run_started_at(run)
    return started is None or now - BATCH.longest - MAX_CLOCK_SKEW <= started <= now + MAX_CLOCK_SKEW


def may_have_record(run: str, now: float) -> bool:
    """Return whether `run` is a run id with a start time within the retention of records."""
    started = run_started_at(run)
    return is_run_id(run) and (started is None or now - RECORD_RETENTION - DAY <= started <= now + HOUR)
