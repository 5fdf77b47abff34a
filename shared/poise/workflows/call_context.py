"""CallContext: what a run needs from the context of its message."""

from typing import Protocol

from poise.contracts.message import Message
from poise.contracts.topics import Lane, Topic
from poise.kafka.record import Position
from poise.rpc.stream_writer import StreamWriter
from poise.worker.context import RpcCaller


class CallContext(Protocol):
    """What a run needs from a message's context."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def step(self) -> str:
        """The workflow's own step in its run."""

    @property
    def tenant(self) -> str:
        """The tenant."""

    @property
    def lane(self) -> Lane:
        """The traffic class."""

    @property
    def stream_writer(self) -> StreamWriter | None:
        """Streams the answer's text; None = the caller did not request a stream."""

    @property
    def written(self) -> float:
        """When its request was written, unix seconds."""

    @property
    def min_epoch(self) -> str | None:
        """The minimum epoch for retrieval; None = any."""

    @property
    def deadline(self) -> float:
        """The run's deadline, unix seconds."""

    @property
    def rpc(self) -> RpcCaller:
        """Calls other tiers."""

    def remaining(self) -> float:
        """Return the seconds until the deadline."""

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        """Publish a message of this run."""
