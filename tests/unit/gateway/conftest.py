"""A gateway on a fake mesh, which has the real mesh's interface and scripted responses."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from poise.contracts import Answer, Delta, Message, Reset
from poise.contracts.topics import Topic
from poise.errors import PoiseError
from poise.kafka.log_lookup import Window
from poise.kafka.record import Position, Record
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.settings import GatewaySettings


@dataclass
class FakeMesh:
    """Records calls; raises `error` on the next one."""

    settings: MeshSettings = field(default_factory=MeshSettings)
    error: PoiseError | None = None
    called: list[dict[str, Any]] = field(default_factory=list)
    published: list[tuple[str | None, Message | None]] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=lambda: {"started": True, "broker": True})
    words: list[Delta | Reset] = field(default_factory=list)
    """Streamed before the answer."""
    cancelled: list[str] = field(default_factory=list)
    looked: list[tuple[str, tuple[Window, ...]]] = field(default_factory=list)
    """The runs that were looked up, and the windows."""
    looking: Callable[[str], Awaitable[None]] | None = None
    """Awaited during a look-up."""
    hold: asyncio.Event | None = None
    given_up: int = 0

    @property
    def rpc(self) -> "FakeMesh":
        return self

    @property
    def producer(self) -> "FakeMesh":
        return self

    @property
    def logs(self) -> "FakeMesh":
        return self

    @property
    def access(self) -> Any:
        return SimpleNamespace(admin=None, connection=None)

    async def call(self, request: Message, options: CallOptions) -> Answer:
        self.called.append({"request": request} | {name: value for name, value in asdict(options).items() if value})
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.error is not None:
            raise self.error
        return Answer(run_id=options.run or "", text="Because.", rung="primary", variant="brief")

    async def stream(self, request: Message, options: CallOptions) -> AsyncGenerator[Delta | Reset | Answer]:
        for item in self.words:
            yield item
        yield await self.call(request, options)

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        if self.error is not None:
            raise self.error
        self.published.append((key, message))
        return Position(topic.name, len(self.published) % 2, len(self.published))

    async def cancel(self, run: str) -> None:
        if self.error is not None:
            raise self.error
        self.cancelled.append(run)

    @property
    def lookups(self) -> "FakeMesh":
        return self

    async def last_of_key(self, topic: str, key: str, windows: Sequence[Window]) -> Record | None:
        assert topic == "poise.records"
        self.looked.append((key, tuple(windows)))
        if self.error is not None:
            raise self.error
        if self.looking is not None:
            await self.looking(key)
        return next(reversed(self.records.get(key, [])), None)

    async def topic_id(self, topic: str) -> str:
        assert topic == "poise.documents"
        return "topic-id"

    def readiness(self) -> dict[str, bool]:
        return self.checks


@pytest.fixture
def mesh() -> FakeMesh:
    """Return the fake mesh."""
    return FakeMesh()


@pytest.fixture
def settings() -> GatewaySettings:
    """Return settings with small limits, so that tests reach them."""
    return GatewaySettings(max_pending=2, max_documents_bytes=2_500_000)


@pytest.fixture
def gateway(mesh: FakeMesh, settings: GatewaySettings) -> Gateway:
    """Return the gateway."""
    return Gateway(cast(WorkerRuntime, mesh), settings)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of the gateway; an unhandled error is a 500, as for real clients."""
    transport = httpx2.ASGITransport(gateway.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def problem() -> Callable[[httpx2.Response], tuple[int, str, list[str]]]:
    """Return a function that checks a problem response and returns its status, type and fields."""

    def read(response: httpx2.Response) -> tuple[int, str, list[str]]:
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["status"] == response.status_code
        assert body["title"]
        assert body["detail"]
        assert isinstance(body["retryable"], bool)
        return response.status_code, body["type"], [item["field"] for item in body["errors"]]

    return read


@pytest.fixture
def held(mesh: FakeMesh) -> Iterator[asyncio.Event]:
    """Make asks wait for an event, and yield it."""
    mesh.hold = asyncio.Event()
    yield mesh.hold
    mesh.hold.set()
