"""HTTP client of one backend, with a concurrency limiter and the state up or down."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Final, Self

import httpx2

from poise.contracts import Completion, Generate
from poise.contracts.topics import Lane
from poise.errors import DeadlineExceededError, HandlerError
from poise.http_client.body import ACCEPT_ENCODING, BodyError, BodyTooLargeError, iter_body
from poise.http_client.loopback import is_loopback
from poise.kafka.handling_slots import parked
from poise.resilience.concurrency_limiter import ConcurrencyLimiter
from poise.resilience.retry_after import retry_after_seconds
from poise.text.error_text import error_with_type
from poise.text.public_text import redact_addresses
from poise_services.inference.chat import CompletionAssembler, parse_completion, request_body
from poise_services.inference.model_telemetry import ModelTelemetry
from poise_services.inference.provider_errors import BackendFailedError, error_for_response
from poise_services.inference.settings import Backend
from poise_services.inference.sse import EVENT_STREAM, iter_event_data

MAX_RESPONSE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of a response without streaming; more would not fit into a reply."""
MAX_STREAM_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a streamed response: a chunk has about 200 bytes of overhead per token."""

DRAIN_TIMEOUT: Final = 0.2
"""Seconds to read the end of a response after its last event, so that the connection can be reused."""

TextSink = Callable[[str], Awaitable[None]]

logger = logging.getLogger(__name__)


class ModelClient:
    """Client of one backend; use it with `async with`, which closes its connections.

    Args:
        name: The backend's name in the settings.
        backend: Its settings.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.limiter = ConcurrencyLimiter(backend.concurrency, backend.batch_share)
        self.up: bool | None = None
        """Whether it answered its last request, even with an error response; None = no request yet."""
        self._backend = backend
        self._telemetry = ModelTelemetry(name, backend)
        self._secret = backend.api_key.get_secret_value() if backend.api_key else ""
        self._client = _client(backend, self._secret)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def complete(
        self, request: Generate, *, remaining: float, lane: Lane = "interactive", write: TextSink | None = None
    ) -> Completion:
        """Return the model's completion of a chat.

        Cancelling closes the connection, which makes servers stop generating.

        Args:
            request: The chat.
            remaining: Seconds until the deadline.
            lane: The traffic class, for the concurrency limiter.
            write: Called with each piece of text as it is streamed; the completion has the whole text.

        Raises:
            DeadlineExceededError: The deadline passed.
            RateLimitedError: The server answered 429, or the account's quota is exhausted.
            BackendFailedError: The server is unreachable, overloaded or slow, failed, or sent no completion.
            TerminalError: The server or its content filter rejected the request.
        """
        budget = min(remaining, self._backend.timeout)
        try:
            async with asyncio.timeout(budget), self.limiter.slot(lane, parked) as waited:
                with self._telemetry.observe(request, waited=waited) as current_span:
                    completion = await self._exchange(request, write if self._backend.stream else None)
                    self._telemetry.record_completion(completion, current_span)
        except TimeoutError as error:
            if remaining <= self._backend.timeout:
                raise DeadlineExceededError(
                    f"backend {self.name} did not answer within the {remaining:.1f} s until the deadline"
                ) from error
            timed_out = BackendFailedError(f"backend {self.name} did not answer within {budget:g} s: see its timeout")
            self._update_up(timed_out)
            raise timed_out from error
        except HandlerError as error:
            self._update_up(error)
            error.args = (redact_addresses(str(error), self._backend.url.host or ""),)  # the caller gets the message
            raise
        self._update_up(None)
        return completion

    async def _exchange(self, request: Generate, write: TextSink | None) -> Completion:
        request_json = request_body(request, self._backend, stream=write is not None)
        try:
            async with self._client.stream("POST", self._backend.endpoint, json=request_json) as response:
                streams = response.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
                if write is not None and streams and response.status_code == HTTPStatus.OK:
                    return await self._read_stream(response, write)
                body = await self._read(response)
        except httpx2.RequestError as error:
            why = error_with_type(error)
            raise BackendFailedError(f"backend {self.name} gave no answer: {why}") from error
        except BodyTooLargeError as error:
            raise BackendFailedError(f"backend {self.name} answered {error}") from error
        except BodyError as error:
            raise BackendFailedError(f"backend {self.name} sent a response that cannot be read: {error}") from error
        if response.status_code == HTTPStatus.OK:
            return parse_completion(body, name=self.name, backend=self._backend)
        retry_after = retry_after_seconds(response.headers, time.time())
        raise error_for_response(response.status_code, body, name=self.name, retry_after=retry_after)

    async def _read_stream(self, response: httpx2.Response, write: TextSink) -> Completion:
        assembler = CompletionAssembler(self.name, self._backend)
        events = iter_event_data(response, MAX_STREAM_BYTES)
        async for data in events:
            await write(assembler.add_event(self._redact_secret(data)))
            if assembler.done:
                await _drain(events)
                break
        return assembler.completion()

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in iter_body(response, MAX_RESPONSE_BYTES):
            body += chunk
        return self._redact_secret(bytes(body))

    def _redact_secret(self, body: bytes) -> bytes:
        # Some servers echo request headers in error messages, which are logged and passed on.
        return body.replace(self._secret.encode(), b"***") if self._secret else body

    def _update_up(self, error: HandlerError | None) -> None:
        up = not isinstance(error, BackendFailedError)
        if up is False and self.up is not False:
            logger.warning("backend %s at %s is down: %s", self.name, self._backend.address, error)
        elif up and self.up is False:
            logger.info("backend %s is back", self.name)
        self.up = up


async def _drain(events: AsyncIterator[bytes]) -> None:
    """Read a response to its end, within a timeout: some servers keep it open after the last event."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in events:
                pass
    except (TimeoutError, httpx2.RequestError, BodyError):
        return  # the completion was received; httpx2 closes the connection


def _client(backend: Backend, secret: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=ACCEPT_ENCODING | ({"authorization": f"Bearer {secret}"} if secret else {}),
        timeout=httpx2.Timeout(None, connect=backend.connect_timeout),
        limits=httpx2.Limits(max_connections=backend.concurrency, max_keepalive_connections=backend.concurrency),
        # A proxy from the environment cannot reach servers on loopback.
        trust_env=not is_loopback(backend.url.host or ""),
        # Loading the CA certificates is slow, and without TLS there is no certificate to verify.
        verify=backend.url.scheme == "https",
    )
