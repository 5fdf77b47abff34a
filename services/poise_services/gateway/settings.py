"""The gateway's settings: where it listens, and how much it takes, from whom, and for how long."""

from typing import Annotated, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from poise.allowed_hosts import HostNames
from poise.settings import Settings

SMALL_REQUEST_BYTES: Final = 16 * 1024
"""Bytes of a request that has half of `bytes_under_way` to itself: an ask is served while uploads use up theirs."""


class HttpLimits(BaseModel):
    """What HTTP clients may take up. What depends on a size may take a second longer for each `least_rate` bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: Annotated[int, Field(ge=1)] = 2_048
    """Connections at once; one more takes the place of the one that has waited for a request for longest."""
    connections_per_peer: Annotated[int, Field(ge=1)] = 1_024
    """Connections at once from one address (IPv6: from one /64 network), as a proxy in front has them all."""
    head_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds in which the head of a request must have come, from its first byte, or from the connection's opening."""
    body_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds in which a body must have come, and more by its size."""
    write_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a client must have read what waits for it, and more by its size."""
    idle_timeout: Annotated[int, Field(ge=1)] = 65
    """Seconds that a connection is kept open between two requests. Longer than clients and proxies keep theirs (httpx
    5, AWS's load balancers 60): where both close it at the same time, a request is sent that nobody reads."""
    least_rate: Annotated[int, Field(ge=1)] = 32 * 1024
    """Bytes a second at which bodies must come and answers must be read in the long run."""
    bytes_under_way: Annotated[int, Field(ge=65_536)] = 64 * 1024 * 1024
    """Bytes of requests under way at once, of all clients together; half of it is for requests of up to 16 KiB."""
    writes: Annotated[float, Field(gt=0)] = 100.0
    """Deletions, cancels and feedback a second, of all clients together; ten times as many at once."""
    writes_per_peer: Annotated[float, Field(gt=0)] = 20.0
    """The same of one address (IPv6: of one /64 network)."""
    unknown_cancels: Annotated[int, Field(ge=1)] = 3_000
    """Cancels an hour of runs that are not under way here, of all clients together; a tenth of them of one address."""


class GatewaySettings(Settings):
    """What the gateway needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_GATEWAY_"}

    table: ClassVar[str] = "gateway"

    host: str = "127.0.0.1"
    """The interface to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port to listen on; 0 = any free one, which the log names."""
    allowed_hosts: HostNames = ()
    """Names, with commas between them, that the header `Host` may say besides `localhost`, `127.0.0.1` and `[::1]`.
    On an interface that is not loopback: none = any; any IP address is allowed there."""
    pending: Annotated[int, Field(ge=1)] = 1_000
    """Asks that may wait for their answer at once; one more is refused with 503 and `Retry-After`."""
    documents_bytes: Annotated[int, Field(ge=1)] = 4 * 1024 * 1024
    """The largest body of `POST /v1/documents`, bytes."""
    lookups: Annotated[int, Field(ge=1)] = 4
    """Runs that are looked up at once where their ids say when they began; more wait."""
    searches: Annotated[int, Field(ge=1)] = 2
    """Runs that are searched for at once in up to all of a partition: those that came by Kafka, and those that left no
    record when they should have; more wait, and are told 503 after a while."""
    limits: HttpLimits = HttpLimits()
    """What HTTP clients may take up: `POISE_GATEWAY_LIMITS__CONNECTIONS` and so on."""
    grace: Annotated[float, Field(ge=0)] = 20.0
    """Seconds that asks are given to finish once the gateway is asked to stop."""
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Whoever sends it as `Authorization: Bearer …` may use `/v1/admin/…`; None = nobody may. 16 characters or more."""

    @model_validator(mode="after")
    def _largest_fits(self) -> Self:
        if self.limits.bytes_under_way < 2 * (self.documents_bytes + SMALL_REQUEST_BYTES):
            raise ValueError("limits.bytes_under_way must be more than twice documents_bytes, or no such body fits")
        return self
