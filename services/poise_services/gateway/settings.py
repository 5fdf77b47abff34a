"""The gateway's settings: its address, its limits and its timeouts."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from poise.allowed_hosts import HostNames
from poise.settings import Settings

SMALL_REQUEST_BYTES: Final = 16 * 1024
"""Requests up to this size (bytes) have half of `max_inflight_bytes` reserved, so that uploads cannot starve asks."""


class HttpLimits(BaseModel):
    """Limits for HTTP clients. A timeout that depends on size is a second longer per `min_bytes_per_second` bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    renamed: ClassVar[Mapping[str, str]] = {
        "connections": "max_connections",
        "connections_per_peer": "max_connections_per_peer",
        "head_timeout": "header_timeout",
        "least_rate": "min_bytes_per_second",
        "bytes_under_way": "max_inflight_bytes",
        "writes": "writes_per_second",
        "writes_per_peer": "writes_per_second_per_peer",
        "unknown_cancels": "unknown_cancels_per_hour",
    }

    max_connections: Annotated[int, Field(ge=1)] = 2_048
    """Concurrent connections. Beyond it, the connection that has been idle longest is closed."""
    max_connections_per_peer: Annotated[int, Field(ge=1)] = 1_024
    """Concurrent connections from one address (IPv6: one /64 network). High, because a proxy has a single address."""
    header_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds to receive the head of a request, from its first byte or from the opening of the connection."""
    body_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds to receive a body, extended by its size."""
    write_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for a client to read the buffered response, extended by its size."""
    idle_timeout: Annotated[int, Field(ge=1)] = 65
    """Seconds that an idle connection stays open. Longer than the keep-alive of clients and proxies (httpx 5, AWS load
    balancers 60): if the server closed first, a request could be sent on a closing connection and be lost."""
    min_bytes_per_second: Annotated[int, Field(ge=1)] = 32 * 1024
    """Bytes a second that a client must send or read on average."""
    max_inflight_bytes: Annotated[int, Field(ge=65_536)] = 64 * 1024 * 1024
    """Bytes of all requests in progress; half of it is reserved for requests up to 16 KiB."""
    writes_per_second: Annotated[float, Field(gt=0)] = 100.0
    """Deletions, cancels and feedback a second, of all clients together; bursts may be ten times as large."""
    writes_per_second_per_peer: Annotated[float, Field(gt=0)] = 20.0
    """The same for one address (IPv6: one /64 network)."""
    unknown_cancels_per_hour: Annotated[int, Field(ge=1)] = 3_000
    """Cancels an hour of runs that are not running here, of all clients together; a tenth of it for one address."""


class GatewaySettings(Settings):
    """Settings of a gateway."""

    model_config = Settings.model_config | {"env_prefix": "POISE_GATEWAY_"}

    table: ClassVar[str] = "gateway"
    renamed: ClassVar[Mapping[str, str]] = {
        "pending": "max_pending",
        "documents_bytes": "max_documents_bytes",
        "lookups": "concurrent_lookups",
        "searches": "concurrent_searches",
    }

    host: str = "127.0.0.1"
    """The interface to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port to listen on; 0 = any free port, which the log names."""
    allowed_hosts: HostNames = ()
    """Comma-separated names allowed in the `Host` header besides `localhost`, `127.0.0.1` and `[::1]`. On an interface
    other than loopback, any IP address is allowed, and an empty list allows any name."""
    max_pending: Annotated[int, Field(ge=1)] = 1_000
    """Concurrent asks; beyond it, asks are rejected with 503 and `Retry-After`."""
    max_documents_bytes: Annotated[int, Field(ge=1)] = 4 * 1024 * 1024
    """The largest body of `POST /v1/documents`, bytes."""
    concurrent_lookups: Annotated[int, Field(ge=1)] = 4
    """Concurrent look-ups of runs whose ids contain their start time; further ones queue."""
    concurrent_searches: Annotated[int, Field(ge=1)] = 2
    """Concurrent searches for runs in a whole partition: runs started by Kafka clients, and runs without a record near
    their start time. Further ones queue, and get 503 after a timeout."""
    limits: HttpLimits = HttpLimits()
    """Limits for HTTP clients: `POISE_GATEWAY_LIMITS__MAX_CONNECTIONS` and so on."""
    grace: Annotated[float, Field(ge=0)] = 20.0
    """Seconds for pending asks to finish during shutdown."""
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """The bearer token for `/v1/admin/…`, 16 characters or more; None = the admin interface is off."""

    @model_validator(mode="after")
    def _largest_fits(self) -> Self:
        if self.limits.max_inflight_bytes < 2 * (self.max_documents_bytes + SMALL_REQUEST_BYTES):
            raise ValueError("limits.max_inflight_bytes must be more than twice max_documents_bytes, the largest body")
        return self
