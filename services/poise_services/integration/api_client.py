"""HTTP client of a third-party API, with a concurrency limiter and a circuit breaker."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import urlsplit

import httpx2

from poise.contracts.topics import Lane
from poise.errors import DeadlineExceededError, PoiseError, RateLimitedError, TerminalError
from poise.http_client.body import ACCEPT_ENCODING, BodyError, BodyTooLargeError, iter_body
from poise.http_client.loopback import is_loopback
from poise.kafka.handling_slots import parked
from poise.resilience.breaker import Breaker
from poise.resilience.concurrency_limiter import ConcurrencyLimiter
from poise.resilience.retry_after import retry_after_seconds
from poise.telemetry import Span, SpanKind, measure, semconv, span
from poise.text.error_text import error_with_type
from poise.text.public_text import redact_addresses
from poise_services.integration.api_errors import ApiFailedError, ApiRefusedError, CircuitOpenError, error_for_status
from poise_services.integration.response_text import extract_text
from poise_services.integration.settings import Api
from poise_services.integration.template import fill, fill_url

DEADLINE_SHARE: Final = 0.9
"""Share of the time until the deadline that a request may take; the rest is for loading a stale response."""
FAIR_TIMEOUT_SHARE: Final = 0.5
"""Minimum share of its timeout that a request must have had for its timeout to count as a failure of the API."""
MAX_OPEN_SECONDS: Final = 300.0
"""Maximum seconds for which `Retry-After` opens the circuit."""

log = logging.getLogger(__name__)


class ApiClient:
    """Client of one integration; use it with `async with`, which closes its connections.

    Args:
        name: Its name in the settings.
        api: Its settings.
    """

    def __init__(self, name: str, api: Api) -> None:
        self.name = name
        self.api = api
        self.breaker = Breaker()
        """Opens after repeated failures."""
        self._limiter = ConcurrencyLimiter(api.concurrency, api.batch_share)
        self._secret_forms = tuple(value.encode() for value in api.redacted_values())
        self._attributes: Mapping[str, str | int] = {
            semconv.HTTP_METHOD: api.method,
            semconv.SERVER_ADDRESS: urlsplit(api.url).hostname or "",
            semconv.SERVER_PORT: api.port,
            semconv.INTEGRATION: name,
        }
        headers = httpx2.Headers(ACCEPT_ENCODING)
        headers.update(api.resolved_headers())
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=api.connect_timeout),
            limits=httpx2.Limits(max_connections=api.concurrency, max_keepalive_connections=api.concurrency),
            trust_env=not is_loopback(urlsplit(api.url).hostname or ""),
            verify=urlsplit(api.url).scheme == "https",
            follow_redirects=False,  # a redirect would send the question and secret headers to an unconfigured host
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def fetch(self, parameters: Mapping[str, str], *, remaining: float, lane: Lane = "interactive") -> str:
        """Call the API and return the text of its response. Cancelling closes the connection.

        Args:
            parameters: Values of the placeholders in its URL and body.
            remaining: Seconds until the deadline.
            lane: The traffic class, for the concurrency limiter.

        Raises:
            PoiseError: See `FetchHandler.fetch`.
        """
        budget = min(self.api.timeout, remaining * DEADLINE_SHARE)
        with self._redact_addresses(), self._breaker_guard():
            try:
                async with asyncio.timeout(budget), self._limiter.slot(lane, parked):
                    return await self._exchange(parameters)
            except TimeoutError as error:
                timed_out = f"integration {self.name} did not answer within {budget:.2g} s"
                if budget < FAIR_TIMEOUT_SHARE * self.api.timeout:
                    raise DeadlineExceededError(f"{timed_out}: the deadline of the ask left no more time") from error
                raise ApiFailedError(f"{timed_out}: see its timeout") from error

    @contextmanager
    def _redact_addresses(self) -> Iterator[None]:
        """Remove addresses from error messages, which reach the caller."""
        try:
            yield
        except PoiseError as error:
            error.args = (redact_addresses(str(error), urlsplit(self.api.url).hostname or ""),)
            raise

    @contextmanager
    def _breaker_guard(self) -> Iterator[None]:
        """Run a request if the breaker allows it, and record its outcome."""
        now = time.monotonic()
        if not self.breaker.allow(now):
            seconds = max(0.0, (self.breaker.retry_at() or now) - now)
            state = f"is skipped for another {seconds:.0f} s" if seconds else "is being probed by one request"
            message = f"integration {self.name} failed repeatedly and {state}{self.breaker.error_suffix()}"
            raise CircuitOpenError(message, retry_after=seconds)
        state_before = self.breaker.state(now)
        try:
            yield
        except RateLimitedError as error:
            open_for = None if error.retry_after is None else min(error.retry_after, MAX_OPEN_SECONDS)
            self.breaker.record_failure(time.monotonic(), open_for=open_for, admitted_at=now, error=str(error))
            self._log_transition(state_before, error)
            raise
        except ApiFailedError as error:
            self.breaker.record_failure(time.monotonic(), admitted_at=now, error=str(error))
            self._log_transition(state_before, error)
            raise
        except TerminalError:  # the API is available
            self.breaker.record_success(admitted_at=now)
            self._log_transition(state_before, None)
            raise
        except BaseException:
            self.breaker.release(admitted_at=now)
            raise
        self.breaker.record_success(admitted_at=now)
        self._log_transition(state_before, None)

    def _log_transition(self, before: str, error: PoiseError | None) -> None:
        after = self.breaker.state(time.monotonic())
        if before == "closed" and after == "open":
            log.warning("integration %s at %s fails and is skipped for a while: %s", self.name, self.api.address, error)
        elif before == "half-open" and after == "closed":
            log.info("integration %s is up again", self.name)

    async def _exchange(self, parameters: Mapping[str, str]) -> str:
        values = {**parameters, **self.api.secret_values()}
        content = None if self.api.body is None else json.dumps(fill(self.api.body, values)).encode()
        headers = None if content is None else {"content-type": "application/json"}
        url = fill_url(self.api.url, values)
        with self._request_span() as request_span:
            try:
                async with self._client.stream(self.api.method, url, content=content, headers=headers) as response:
                    request_span.set_attribute(semconv.HTTP_STATUS, response.status_code)
                    body = await self._read(response)
            except (httpx2.RequestError, httpx2.InvalidURL) as error:
                why = self._redact_secrets(error_with_type(error).encode()).decode()
                raise ApiFailedError(f"integration {self.name} gave no answer: {why}") from None
            status = response.status_code
            if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                after = retry_after_seconds(response.headers, time.time())
                raise error_for_status(status, body, name=self.name, retry_after=after, max_wait=self.api.timeout)
            text = extract_text(body, self.api.pointer, name=self.name, status=status)
            return self._redact_secrets(text.encode()).decode()  # again: JSON escapes may have hidden a secret

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        try:
            async for chunk in iter_body(response, self.api.max_bytes):
                body += chunk
        except BodyTooLargeError as error:
            raise ApiRefusedError(f"integration {self.name} answered {error}") from error
        except BodyError as error:
            raise ApiFailedError(f"integration {self.name} sent a response that cannot be read: {error}") from error
        return self._redact_secrets(bytes(body))

    def _redact_secrets(self, body: bytes) -> bytes:
        # Some APIs echo the request's URL and headers in errors and responses, which are passed on.
        for value in self._secret_forms:
            body = body.replace(value, b"***")
        return body

    @contextmanager
    def _request_span(self) -> Iterator[Span]:
        """Record span and duration by OpenTelemetry's HTTP conventions, without the URL, which may hold a secret."""
        started = time.perf_counter()
        error_type = ""
        try:
            with span(semconv.fetch_span(self.name), kind=SpanKind.CLIENT, attributes=self._attributes) as current:
                yield current
        except BaseException as error:
            error_type = type(error).__qualname__
            raise
        finally:
            attributes = dict(self._attributes)
            if error_type:
                attributes[semconv.ERROR_TYPE] = error_type
            measure(semconv.HTTP_CLIENT_DURATION, time.perf_counter() - started, attributes)
