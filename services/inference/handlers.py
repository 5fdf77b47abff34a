"""The inference tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Completion, Generate, Message
from poise.messaging import Context, Handler
from services.inference.backends import Backends


def handlers(backends: Backends) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""

    async def generate(request: Generate, context: Context) -> Completion:
        return await backends.named(request.backend).complete(request, remaining=context.remaining())

    return {Generate: generate}
