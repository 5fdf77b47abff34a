"""`POST /v1/ask`: starts a run for a question and responds with its answer."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from random import SystemRandom
from typing import Final, TypeVar

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from poise.contracts import Ask
from poise.contracts.headers import RUN, TRACEPARENT
from poise.contracts.run_id import ROOT_STEP, new_run_id
from poise.errors import InvalidMessageError, RetryableError, UnavailableError
from poise.ingestion.epoch_validator import EpochValidator, parse_epoch
from poise.rpc.client import CallOptions, RpcClient
from poise.telemetry import SpanKind, extract, inject, semconv, span
from poise_services.gateway.body import read_json
from poise_services.gateway.event_stream import EventStreamResponse, EventWriter, prefers_event_stream
from poise_services.gateway.languages import preferred_language
from poise_services.gateway.request_options import RequestOptions
from poise_services.gateway.runs import RunEndpoints
from poise_services.gateway.settings import GatewaySettings

MAX_ASK_BYTES: Final = 128 * 1024
"""Maximum size of the body of an ask: a question of maximum length, each character escaped as `\\uXXXX`."""
READ_GRACE: Final = 60.0
"""Seconds after the deadline within which a client must have read its answer."""

ResultT = TypeVar("ResultT")


class AskEndpoint:
    """Handles asks, and limits how many are pending."""

    def __init__(
        self, rpc: RpcClient, settings: GatewaySettings, runs: RunEndpoints, epochs: EpochValidator | None = None
    ) -> None:
        self.pending = 0
        """Asks without an answer yet."""
        self._rpc = rpc
        self._limit = settings.max_pending
        self._runs = runs
        self._epochs = epochs
        self._random = SystemRandom()
        self._shutdown = asyncio.Event()

    async def ask(self, request: Request) -> Response:
        """Answer `POST /v1/ask`.

        Raises:
            InvalidMessageError: The body or a header is invalid.
            RetryableError: Too many asks are pending.
            FaultError: The run ended in a fault.
            DeadlineExceededError: There was no answer before the deadline.
            UnavailableError: The broker does not accept the question, or the gateway is shutting down.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        ask = await _read_ask(request, options)
        if self.pending >= self._limit:
            raise RetryableError(f"{self.pending} asks are pending already, the maximum: retry later", retry_after=1)
        if options.min_epoch is not None and self._epochs is not None:
            await self._epochs.validate(parse_epoch(options.min_epoch))
        run = new_run_id(time.time(), self._random)
        request.state.response_headers = {RUN: run}
        if prefers_event_stream(request):
            return self._stream(request, ask, run, options)
        with self._ask_in_progress(request, run, options):
            call = self._rpc.call(ask, _call_options(ask, run, options))
            answer = await self._until_disconnect(request, call)
        return Response(answer.encode(), headers=request.state.response_headers, media_type="application/json")

    def _stream(self, request: Request, ask: Ask, run: str, options: RequestOptions) -> Response:
        """Return the response that streams the answer; the run starts when the server writes it."""

        async def write_events(events: EventWriter) -> None:
            items = self._rpc.stream(ask, _call_options(ask, run, options))
            with self._ask_in_progress(request, run, options):
                try:
                    async with asyncio.timeout(options.deadline - time.time() + READ_GRACE):
                        await self._until_disconnect(request, events.relay(items))
                except TimeoutError as error:
                    raise ClientDisconnect from error  # a client that does not read is treated as disconnected

        return EventStreamResponse(write_events, lambda: request.state.response_headers)

    @contextmanager
    def _ask_in_progress(self, request: Request, run: str, options: RequestOptions) -> Iterator[None]:
        """Count an ask as pending and its run as running, in its span, whose `traceparent` the response gets."""
        self.pending += 1
        try:
            with self._runs.track(run), self._span(run, options):
                request.state.response_headers |= {
                    name: value for name, value in inject().items() if name == TRACEPARENT
                }
                yield
        finally:
            self.pending -= 1

    def abort_pending(self) -> None:
        """Abort all pending asks with 503."""
        self._shutdown.set()

    def _span(self, run: str, options: RequestOptions) -> span:
        attributes = {semconv.RUN: run, semconv.HTTP_METHOD: "POST", semconv.HTTP_ROUTE: "/v1/ask"}
        return span(semconv.ASK, kind=SpanKind.SERVER, attributes=attributes, parent=extract(options.trace))

    async def _until_disconnect(self, request: Request, work: Coroutine[None, None, ResultT]) -> ResultT:
        """Run the work until the client disconnects or the gateway shuts down.

        Raises:
            ClientDisconnect: The client disconnected.
            UnavailableError: The gateway is shutting down.
        """
        working = asyncio.create_task(work)
        disconnected = asyncio.create_task(_wait_disconnected(request))
        shutdown = asyncio.create_task(self._shutdown.wait())
        try:
            await asyncio.wait({working, disconnected, shutdown}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if disconnected.done():
                raise ClientDisconnect
            raise UnavailableError("the gateway is shutting down: retry, another instance may answer")
        finally:
            for task in (working, disconnected, shutdown):
                task.cancel()
            await asyncio.gather(working, disconnected, shutdown, return_exceptions=True)


async def _read_ask(request: Request, options: RequestOptions) -> Ask:
    """Return the ask in the body; headers provide its language and cache directive if the body has none."""
    try:
        ask = Ask.parse(await read_json(request, limit=MAX_ASK_BYTES), strict=True)
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error
    if ask.language is None:
        language = preferred_language(",".join(request.headers.getlist("accept-language")))
        ask = ask.model_copy(update={"language": language})
    if ask.cache is None:
        ask = ask.model_copy(update={"cache": options.cache})
    return ask


def _call_options(ask: Ask, run: str, options: RequestOptions) -> CallOptions:
    return CallOptions(
        run=run,
        step=ROOT_STEP,
        key=ask.conversation or run,  # asks of one conversation are handled in order
        deadline=options.deadline,
        min_epoch=options.min_epoch,
    )


async def _wait_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
