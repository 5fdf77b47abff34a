"""The gateway's settings: where it listens, and how much it takes."""

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr

from poise.settings import Settings


class GatewaySettings(Settings):
    """What the gateway needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_GATEWAY_"}

    table: ClassVar[str] = "gateway"

    host: str = "127.0.0.1"
    """The interface to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port to listen on; 0 = any free one, which the log names."""
    pending: Annotated[int, Field(ge=1)] = 1_000
    """Asks that may wait for their answer at once; one more is refused with 503 and `Retry-After`."""
    documents_bytes: Annotated[int, Field(ge=1)] = 4 * 1024 * 1024
    """The largest body of `POST /v1/documents`, bytes."""
    lookups: Annotated[int, Field(ge=1)] = 4
    """Runs that are looked up at once; more wait."""
    grace: Annotated[float, Field(ge=0)] = 20.0
    """Seconds that asks are given to finish once the gateway is asked to stop."""
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Whoever sends it as `Authorization: Bearer …` may use `/v1/admin/…`; None = nobody may. 16 characters or more."""
