"""The inference tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Completion, Generate, Message
from poise.messaging import Context, Handler
from services.inference.backends import Backends


def handlers(backends: Backends) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""

    async def generate(request: Generate, context: Context) -> Completion:
        server = backends.named(request.backend)
        return await server.complete(request, remaining=context.remaining(), lane=context.lane)

    return {Generate: generate}
