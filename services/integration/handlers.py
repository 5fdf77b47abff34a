"""The integration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Fetch, Message
from poise.messaging import Handler
from services.integration.apis import Apis
from services.integration.fetching import Fetching
from services.integration.last_good import LastGood


def handlers(apis: Apis, last_good: LastGood) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    return {Fetch: Fetching(apis, last_good).fetch}
