"""Fetching: an integration is asked; when it has no answer, its last good one stands in, marked."""

from collections.abc import Mapping

from poise.contracts import Fetch, Fetched, FieldError
from poise.errors import DeadlineExceededError, HandlerError, InvalidMessageError
from poise.telemetry import count, semconv
from poise.worker.context import Context
from poise_services.integration.apis import Apis
from poise_services.integration.refusals import EmptyError
from poise_services.integration.settings import Api
from poise_services.integration.stale_if_error import CacheKey, LastGood
from poise_services.integration.template import steps_in_path


class Fetching:
    """Handles `Fetch`."""

    def __init__(self, apis: Apis, last_good: LastGood) -> None:
        self._apis = apis
        self._last_good = last_good

    async def fetch(self, request: Fetch, context: Context) -> Fetched:
        """Ask an integration.

        Raises:
            InvalidMessageError: A parameter is missing, or cannot stand where it is to stand.
            NotThereError: There is no integration of that name.
            EmptyError: It answered 200 with nothing in it.
            RestingError: It kept failing, and is left alone for a while.
            RateLimitedError: It wants fewer requests.
            FailedError: It cannot be reached, failed, was too slow, or what it says cannot be read.
            RefusedError: It refused, or what it says is of no use.
            DeadlineExceededError: Those who wait have no more time.
        """
        server = self._apis.named(request.integration)
        parameters = checked(server.api, request.parameters)
        question = CacheKey(context.tenant, server.name, server.api, parameters)
        source = server.api.source or server.name
        try:
            text = await server.ask(parameters, remaining=context.remaining(), lane=context.lane)
        except (HandlerError, DeadlineExceededError) as error:
            last = await self._last_good.find(question)
            _count(server.name, "stale" if last else "empty" if isinstance(error, EmptyError) else "fault")
            if last is None:
                raise
            text, age = last
            return Fetched(integration=server.name, text=text, source=source, age=age, reason=str(error))
        _count(server.name, "ok")
        await self._last_good.keep(question, text)
        return Fetched(integration=server.name, text=text, source=source)


def checked(api: Api, given: Mapping[str, str]) -> dict[str, str]:
    """The parameters that an API takes, of those that are given.

    Raises:
        InvalidMessageError: One is missing, or cannot stand where it is to stand.
    """
    taken = {name: given[name] for name in sorted(api.parameters) if name in given}
    wrong = dict.fromkeys(sorted(api.parameters - taken.keys()), "is missing, and the integration takes it")
    if not wrong:
        steps = sorted(steps_in_path(api.url, taken | api.known_secrets()))
        wrong = dict.fromkeys(steps, "stands in an address's path, where it must not be . or ..")
    if wrong:
        errors = [FieldError(field=f"parameters.{name}", detail=detail) for name, detail in wrong.items()]
        raise InvalidMessageError("; ".join(f"{error.field} {error.detail}" for error in errors), errors)
    return taken


def _count(name: str, outcome: str) -> None:
    count(semconv.FETCHES, 1, {semconv.INTEGRATION: name, semconv.OUTCOME: outcome})
