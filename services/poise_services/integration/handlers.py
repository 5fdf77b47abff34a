"""The integration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Fetch, Message
from poise.worker.context import Handler
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.fetch_handler import FetchHandler
from poise_services.integration.stale_if_error import StaleIfErrorCache


def handlers(apis: ApiClients, stale_cache: StaleIfErrorCache) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type."""
    return {Fetch: FetchHandler(apis, stale_cache).fetch}
