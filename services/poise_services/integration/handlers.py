"""The integration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Fetch, Message
from poise.worker.context import Handler
from poise_services.integration.apis import Apis
from poise_services.integration.fetching import Fetching
from poise_services.integration.stale_if_error import LastGood


def handlers(apis: Apis, last_good: LastGood) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    return {Fetch: Fetching(apis, last_good).fetch}
