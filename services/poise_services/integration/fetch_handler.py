"""Handles `Fetch`: calls an integration; on an error, replies with its stale response, marked as such."""

from collections.abc import Mapping

from poise.contracts import Fetch, Fetched, FieldError
from poise.errors import DeadlineExceededError, HandlerError, InvalidMessageError
from poise.telemetry import count, semconv
from poise.worker.context import Context
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.api_errors import EmptyResponseError
from poise_services.integration.settings import Api
from poise_services.integration.stale_if_error import CacheKey, StaleIfErrorCache
from poise_services.integration.template import dot_segment_placeholders


class FetchHandler:
    """Handles `Fetch`."""

    def __init__(self, clients: ApiClients, stale_cache: StaleIfErrorCache) -> None:
        self._clients = clients
        self._stale_cache = stale_cache

    async def fetch(self, request: Fetch, context: Context) -> Fetched:
        """Call an integration.

        Raises:
            InvalidMessageError: A parameter is missing, or is `.` or `..` in the URL's path.
            UnknownIntegrationError: The integration is not configured.
            EmptyResponseError: It answered 200 with empty content.
            CircuitOpenError: It failed repeatedly and is not called for a while.
            RateLimitedError: It answered 429.
            ApiFailedError: It is unreachable, failed, timed out or sent an unreadable response.
            ApiRefusedError: It rejected the request, or its response is unusable.
            DeadlineExceededError: The deadline passed.
        """
        client = self._clients.get(request.integration)
        parameters = select_parameters(client.api, request.parameters)
        key = CacheKey(context.tenant, client.name, client.api, parameters)
        source = client.api.source or client.name
        try:
            text = await client.fetch(parameters, remaining=context.remaining(), lane=context.lane)
        except (HandlerError, DeadlineExceededError) as error:
            stale = await self._stale_cache.load(key)
            if stale is None:
                _count(client.name, "empty" if isinstance(error, EmptyResponseError) else "fault")
                raise
            _count(client.name, "stale")
            text, age = stale
            return Fetched(integration=client.name, text=text, source=source, age=age, reason=str(error))
        _count(client.name, "ok")
        await self._stale_cache.store(key, text)
        return Fetched(integration=client.name, text=text, source=source)


def select_parameters(api: Api, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that an API has placeholders for.

    Raises:
        InvalidMessageError: One is missing, or is `.` or `..` in the URL's path.
    """
    selected = {name: parameters[name] for name in sorted(api.parameters) if name in parameters}
    problems = dict.fromkeys(sorted(api.parameters - selected.keys()), "is missing: the integration requires it")
    if not problems:
        dot_segments = sorted(dot_segment_placeholders(api.url, selected | api.secret_values()))
        problems = dict.fromkeys(dot_segments, "is part of a URL's path: it must not be . or ..")
    if problems:
        errors = [FieldError(field=f"parameters.{name}", detail=detail) for name, detail in problems.items()]
        raise InvalidMessageError("; ".join(f"{error.field} {error.detail}" for error in errors), errors)
    return selected


def _count(name: str, outcome: str) -> None:
    count(semconv.FETCHES, 1, {semconv.INTEGRATION: name, semconv.OUTCOME: outcome})
