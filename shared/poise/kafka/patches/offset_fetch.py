"""Raise the error of an offset fetch that stands for the whole response, which aiokafka 0.14 ignores.

    a consumer is assigned a partition → it asks the group's coordinator for the committed offset
    → the coordinator has just moved to another broker, and the old one answers NOT_COORDINATOR

Up to version 1 of the request, the response had that error at each partition. Since version 2, it is above an empty
list, where aiokafka does not look. It takes the empty list for "nothing committed" and starts at the beginning of the
log, so that everything in it is handled again.
"""

from typing import Any

from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from poise.kafka.patches.versions import check_version


def install(client: Any) -> None:
    """Make a client raise the error of an offset fetch: the caller then finds the new coordinator and asks again.

    Args:
        client: The `AIOKafkaClient` of a consumer or an admin client.
    """
    check_version("aiokafka")
    send = client.send

    async def send_checked(node: int, request: Any, **options: Any) -> Any:
        response = await send(node, request, **options)
        if isinstance(request, OffsetFetchRequest):
            error: type[KafkaError] = for_code(getattr(response, "error_code", 0))
            if error is not NoError:
                raise error(f"node {node} does not return the committed offsets")
        return response

    client.send = send_checked
