"""Server: one backend at work, with its connections, its places and whether it is up."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Final, Self

import httpx2

from poise.contracts import Completion, Generate
from poise.contracts.topics import Lane
from poise.errors import DeadlineExceededError, HandlerError, RateLimitedError, RetryableError
from poise.http_client.body import ACCEPT_ENCODING, BodyError, BodyTooLargeError, iter_body
from poise.http_client.loopback import is_loopback
from poise.kafka.handling_slots import parked
from poise.resilience.concurrency_limiter import ConcurrencyLimiter
from poise.resilience.retry_after import retry_after_seconds
from poise.text.error_text import error_with_type
from poise.text.public_text import redact_addresses
from poise_services.inference.chat import CompletionAssembler, parse_completion, request_body
from poise_services.inference.model_telemetry import ModelTelemetry
from poise_services.inference.provider_errors import error_for_response
from poise_services.inference.settings import Backend
from poise_services.inference.sse import EventParser

MAX_RESPONSE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of an answer as a whole; a server that sends more is not answering a chat, and no reply could hold it."""
MAX_STREAM_BYTES: Final = 8 * 1024 * 1024
"""Bytes of an answer in chunks, which say some 200 bytes around each word."""

EVENT_STREAM: Final = "text/event-stream"
DRAIN_TIMEOUT: Final = 0.2
"""Seconds for the end of a response whose last event has come, so that its connection can be used again."""

TextSink = Callable[[str], Awaitable[None]]

logger = logging.getLogger(__name__)


class ModelClient:
    """One backend; `async with` it to have its connections closed at the end.

    Args:
        name: The backend's name in the settings.
        backend: Its settings.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.limiter = ConcurrencyLimiter(backend.concurrency, backend.batch_share)
        self.up: bool | None = None
        """Whether it answered its last request, be it by a refusal; None = it was not asked yet."""
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
        """Have the model complete a chat.

        Cancelling it closes the connection, on which servers stop writing.

        Args:
            request: The chat.
            remaining: Seconds until nobody wants it any more.
            lane: Whose turn it is to get a place.
            write: Takes words as they come, where the server streams; the completion has all of them in any case.

        Raises:
            DeadlineExceededError: Those seconds are over.
            RateLimitedError: The server wants fewer requests, or the account's quota is used up.
            RetryableError: The server cannot be reached, is too busy or slow, failed, or answered without a completion.
            TerminalError: The server refused the request, or its filter did.
        """
        budget = min(remaining, self._backend.timeout)
        try:
            async with asyncio.timeout(budget), self.limiter.slot(lane, parked) as waited:
                with self._telemetry.observe(request, waited=waited) as observed:
                    completion = await self._exchange(request, write if self._backend.stream else None)
                    self._telemetry.record_completion(completion, observed)
        except TimeoutError as error:
            if remaining <= self._backend.timeout:
                raise DeadlineExceededError(f"backend {self.name} had {remaining:.1f} s, too little") from error
            slow = RetryableError(f"backend {self.name} did not answer within {budget:g} s: see its timeout")
            self._update_up(slow)
            raise slow from error
        except HandlerError as error:
            self._update_up(error)
            error.args = (redact_addresses(str(error), self._backend.url.host or ""),)  # it is told to whoever asked
            raise
        self._update_up(None)
        return completion

    async def _exchange(self, request: Generate, write: TextSink | None) -> Completion:
        body = request_body(request, self._backend, stream=write is not None)
        try:
            async with self._client.stream("POST", self._backend.endpoint, json=body) as response:
                streams = response.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
                if write is not None and streams and response.status_code == HTTPStatus.OK:
                    return await self._read_stream(response, write)
                answered = await self._read(response)
        except httpx2.RequestError as error:
            why = error_with_type(error)
            raise RetryableError(f"backend {self.name} gave no answer: {why}") from error
        except BodyTooLargeError as error:
            raise RetryableError(f"backend {self.name} answered {error}") from error
        except BodyError as error:
            raise RetryableError(f"backend {self.name} answered what cannot be read: {error}") from error
        if response.status_code == HTTPStatus.OK:
            return parse_completion(answered, name=self.name, backend=self._backend)
        retry_after = retry_after_seconds(response.headers, time.time())
        raise error_for_response(response.status_code, answered, name=self.name, retry_after=retry_after)

    async def _read_stream(self, response: httpx2.Response, write: TextSink) -> Completion:
        assembler, events = CompletionAssembler(self.name, self._backend), EventParser()
        chunks = iter_body(response, MAX_STREAM_BYTES)
        async for chunk in chunks:
            for data in events.feed(chunk):
                await write(assembler.add_event(self._without_secret(data)))
            if assembler.done:
                await _drain(chunks)
                break
        for data in events.close():
            await write(assembler.add_event(self._without_secret(data)))
        return assembler.completion()

    async def _read(self, response: httpx2.Response) -> bytes:
        answered = bytearray()
        async for piece in iter_body(response, MAX_RESPONSE_BYTES):
            answered += piece
        return self._without_secret(bytes(answered))

    def _without_secret(self, answered: bytes) -> bytes:
        # Servers have been seen to quote a request's headers in their errors, and those are logged and passed on.
        return answered.replace(self._secret.encode(), b"***") if self._secret else answered

    def _update_up(self, error: HandlerError | None) -> None:
        up = isinstance(error, RateLimitedError) or not isinstance(error, RetryableError)
        if up is False and self.up is not False:
            logger.warning("backend %s at %s is down: %s", self.name, self._backend.address, error)
        elif up and self.up is False:
            logger.info("backend %s is back", self.name)
        self.up = up


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end of a response, if it comes soon: some servers keep the connection open after their last word."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in chunks:
                pass
    except (TimeoutError, httpx2.RequestError, BodyError):
        return  # all words are there; the connection is closed


def _client(backend: Backend, secret: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=ACCEPT_ENCODING | ({"authorization": f"Bearer {secret}"} if secret else {}),
        timeout=httpx2.Timeout(None, connect=backend.connect_timeout),
        limits=httpx2.Limits(max_connections=backend.concurrency, max_keepalive_connections=backend.concurrency),
        # A proxy of the environment's is for the world outside: it could not reach this machine's own servers.
        trust_env=not is_loopback(backend.url.host or ""),
        # Without TLS there is no certificate to check, and loading the authorities takes longer than the rest.
        verify=backend.url.scheme == "https",
    )
