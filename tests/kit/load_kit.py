"""Load on a mesh during a disturbance: calls at a steady rate, and their outcomes."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from integration_kit import serving

from poise.contracts import Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.errors import PoiseError
from poise.rpc.calls import Calls
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

RATE = 60.0
"""Calls per second."""
DEADLINE = 45.0
"""Seconds until the deadline of a call."""
WITHIN = 60.0
TAKES = 0.02
"""Seconds of a handling."""


class VerifiedCalls:
    """Calls with unique texts; each reply must repeat the text of its call."""

    def __init__(self, caller: WorkerRuntime) -> None:
        self.outcomes: dict[str, str] = {}
        """By the text of the call: `ok`, or the error that the caller saw."""
        self.handled: Counter[str] = Counter()
        self.taken: list[float] = []
        """When each handling began."""
        self._caller = caller
        self._calls: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._running = asyncio.create_task(self._run())
        self._answered = 0

    async def handle(self, request: Generate, _context: Context) -> Completion:
        """Handle a call, as the tier that is called."""
        text = request.messages[0].content
        self.taken.append(time.monotonic())
        self.handled[text] += 1
        await asyncio.sleep(TAKES)
        return Completion(text=text, model="m", backend="b", finish_reason="stop")

    async def _run(self) -> None:
        """Call at the rate, regardless of the results, until stopped."""
        began = time.monotonic()
        for number in itertools.count():
            late = began + number / RATE - time.monotonic()
            try:
                await asyncio.wait_for(self._stopping.wait(), max(late, 0.0001))
            except TimeoutError:
                self._calls.add(asyncio.create_task(self._call(f"call {number}")))
            else:
                return

    async def _call(self, text: str) -> None:
        request = Generate(messages=(ChatMessage(role="user", content=text),))
        deadline = time.time() + DEADLINE
        try:
            reply = await self._caller.rpc.call(request, CallOptions(run=text, step="only", deadline=deadline))
        except PoiseError as error:
            self.outcomes[text] = f"{type(error).__name__}: {error}"
        else:
            self.outcomes[text] = "ok" if reply.text == text else f"the reply to {reply.text}"
            self._answered += 1

    async def goes_on(self, calls: int = 100) -> None:
        """Wait until this number of further calls has been answered."""
        wanted = self._answered + calls
        async with asyncio.timeout(WITHIN):
            while self._answered < wanted:  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.02)

    def longest_pause(self, since: float) -> float:
        """Return the longest time, in seconds, in which no handling began, since a moment of the monotonic clock."""
        times = [at for at in self.taken if at >= since]
        return max((later - earlier for earlier, later in itertools.pairwise([since, *times])), default=0.0)

    async def finish(self) -> None:
        """Stop calling, and wait for the outcome of every call."""
        self._stopping.set()
        await self._running  # first, because it may start another call
        await asyncio.gather(*self._calls)

    @property
    def reply_partition(self) -> int:
        """Return the partition of `poise.replies` that the caller reads."""
        return self._replies._partition

    @property
    def prefix(self) -> str:
        """Return the prefix of the caller's correlation ids."""
        return self._replies._prefix.decode()

    @property
    def _replies(self) -> Calls:
        assert self._caller.rpc._calls is not None
        return self._caller.rpc._calls

    @property
    def accepted(self) -> int:
        """Return the number of calls."""
        return len(self._calls)

    @property
    def failed(self) -> dict[str, str]:
        """Return the calls that failed, with their errors."""
        return {text: outcome for text, outcome in self.outcomes.items() if outcome != "ok"}


@asynccontextmanager
async def load(bootstrap: str, *, workers: int = 2) -> AsyncIterator[VerifiedCalls]:
    """Run a client that calls a tier with some workers; `finish` is called at the end of the block."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(
            WorkerRuntime(MeshSettings(broker=bootstrap, spans=False), tier="client")
        )
        made = VerifiedCalls(caller)
        tier = Tier("inference", {Generate: made.handle})
        for _ in range(workers):
            await stack.enter_async_context(serving(MeshSettings(broker=bootstrap, spans=False), tier))
        try:
            await made.goes_on()
            yield made
        finally:
            await made.finish()


async def written(bootstrap: str, topic: str, since: float, prefix: str) -> Counter[str]:
    """Return how often each correlation id with that prefix is in a topic since a time, unix seconds."""
    found: Counter[str] = Counter()
    async with (
        WorkerRuntime(MeshSettings(broker=bootstrap, spans=False), tier="client") as mesh,
        mesh.logs.open_stream(topic, start=since) as log,
    ):
        async for batch in log.read_to_end():
            ids = [record.header("correlation_id") or "" for record in batch]
            found.update(id_ for id_ in ids if id_.startswith(prefix))
    return found
