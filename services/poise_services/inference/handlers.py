"""The inference tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Completion, Generate, Message
from poise.errors import RateLimitedError
from poise.worker.context import Context, Handler
from poise_services.inference.backends import Backends


def handlers(backends: Backends) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type."""

    async def generate(request: Generate, context: Context) -> Completion:
        client = backends.get(request.backend)
        remaining = context.remaining()
        write = context.stream_writer.write if context.stream_writer is not None else None
        try:
            return await client.complete(request, remaining=remaining, lane=context.lane, write=write)
        except RateLimitedError as error:
            raise error.with_max_wait(request.patience) from error.__cause__

    return {Generate: generate}
