"""Offset fetches: an error that stands for a whole answer, which aiokafka 0.14 overlooks.

A consumer is assigned a partition → asks the group's coordinator what is committed → the coordinator has just moved to
another broker, and the old one answers NOT_COORDINATOR. Up to version 1 of the request that error stood at each
partition; since version 2 it stands above an empty list, at which aiokafka does not look. It takes the empty list for
"nothing is committed", begins at the start of the log, and everything in it is handled again.
"""

from typing import Any

from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest


def heed_errors(client: Any) -> None:
    """Make a client raise the error of an offset fetch: whoever sent it then finds the coordinator and asks again.

    Args:
        client: aiokafka's own, the one that a consumer or an admin client sends by.
    """
    send = client.send

    async def heeding(node: int, request: Any, **options: Any) -> Any:
        response = await send(node, request, **options)
        if isinstance(request, OffsetFetchRequest):
            error: type[KafkaError] = for_code(getattr(response, "error_code", 0))
            if error is not NoError:
                raise error(f"node {node} does not tell what is committed")
        return response

    client.send = heeding
