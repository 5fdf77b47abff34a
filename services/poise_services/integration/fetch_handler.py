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
            InvalidMessageError: A parameter is missing, or not allowed in its place.
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
            last = await self._stale_cache.load(key)
            _count(client.name, "stale" if last else "empty" if isinstance(error, EmptyResponseError) else "fault")
            if last is None:
                raise
            text, age = last
            return Fetched(integration=client.name, text=text, source=source, age=age, reason=str(error))
        _count(client.name, "ok")
        await self._stale_cache.store(key, text)
        return Fetched(integration=client.name, text=text, source=source)


def select_parameters(api: Api, given: Mapping[str, str]) -> dict[str, str]:
    """Return those of the given parameters that an API takes.

    Raises:
        InvalidMessageError: One is missing, or not allowed in its place.
    """
    taken = {name: given[name] for name in sorted(api.parameters) if name in given}
    wrong = dict.fromkeys(sorted(api.parameters - taken.keys()), "is missing, and the integration takes it")
    if not wrong:
        steps = sorted(dot_segment_placeholders(api.url, taken | api.secret_values()))
        wrong = dict.fromkeys(steps, "stands in an address's path, where it must not be . or ..")
    if wrong:
        errors = [FieldError(field=f"parameters.{name}", detail=detail) for name, detail in wrong.items()]
        raise InvalidMessageError("; ".join(f"{error.field} {error.detail}" for error in errors), errors)
    return taken


def _count(name: str, outcome: str) -> None:
    count(semconv.FETCHES, 1, {semconv.INTEGRATION: name, semconv.OUTCOME: outcome})
