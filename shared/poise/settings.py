"""Settings: read once at start, from `POISE_…` variables and one optional TOML file (`POISE_CONFIG`)."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from uuid import uuid4

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from poise.allowed_hosts import HostNames
from poise.config.renamed import NESTED_DELIMITER, old_keys_in_environment, old_keys_in_table
from poise.config.toml_file import read_toml
from poise.errors import SetupError
from poise.security import Security
from poise.text.error_text import error_message

CONFIG_VARIABLE = "POISE_CONFIG"


class Settings(BaseSettings):
    """The base class of all settings: frozen, and the environment overrides the file; `table` names its TOML table."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="POISE_",
        env_nested_delimiter=NESTED_DELIMITER,
        hide_input_in_errors=True,  # an input may be a secret
    )

    table: ClassVar[str] = "mesh"
    renamed: ClassVar[Mapping[str, str]] = {}
    """Renamed settings, old name to new name. Nested models have the same attribute."""
    removed: ClassVar[Mapping[str, str]] = {}
    """Removed settings, name to what it did and what to do instead. Nested models have the same attribute."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then the table of the TOML file that `POISE_CONFIG` names, if any.

        Raises:
            SetupError: The file cannot be read, or a setting is unknown, or was renamed or removed.
        """
        if old := list(old_keys_in_environment(cls, cls.model_config["env_prefix"], os.environ)):
            raise SetupError(f"settings refused: {'; '.join(old)}")
        path = os.environ.get(CONFIG_VARIABLE)
        if not path:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise SetupError(f"{CONFIG_VARIABLE} names {path}, which is not a file: correct it or unset it")
        if (table := _read(path).get(cls.table)) is None:  # a file need not have a table for every process
            return init_settings, env_settings
        if old := list(old_keys_in_table(cls, cls.table, table)):
            raise SetupError(f"{path}: {'; '.join(old)}")
        if unknown := sorted(set(table) - set(cls.model_fields)):
            raise SetupError(
                f"{path}: [{cls.table}] has no setting {', '.join(unknown)}: {', '.join(cls.model_fields)}"
            )
        return init_settings, env_settings, InitSettingsSource(settings_cls, table)

    @classmethod
    def load(cls) -> Self:
        """Read and validate the settings.

        Raises:
            SetupError: A setting is refused; the message names it and the reason.
        """
        try:
            return cls()
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            refused = (f"{prefix}{'__'.join(map(str, e['loc']))}".upper() + f": {e['msg']}" for e in error.errors())
            raise SetupError("settings refused: " + "; ".join(refused)) from error
        except SettingsError as error:
            why = error.__cause__ or error
            raise SetupError(f"settings cannot be read: {error}: {why}" if why is not error else str(error)) from error


def _read(path: str) -> dict[str, Any]:
    try:
        return read_toml(Path(path))
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise SetupError(f"{path}, which {CONFIG_VARIABLE} names, cannot be read: {error_message(error)}") from error


class MeshSettings(Settings):
    """The settings that every process of the mesh has."""

    renamed: ClassVar[Mapping[str, str]] = {"lease": "lease_ttl"}

    broker: str = "127.0.0.1:9092"
    """Kafka's bootstrap servers, `host:port[,host:port…]`."""
    security: Security = Security()
    """TLS and SASL for the connection to Kafka: `POISE_SECURITY__PROTOCOL` and so on."""
    redis_url: str | None = None
    """Redis or Valkey, `redis://host:port/db`; None = not used."""
    tenant: Annotated[str, Field(min_length=1)] = "default"
    """The tenant of every message that arrives on `poise.ask.*`."""
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")] = Field(
        default_factory=lambda: f"{socket.gethostname()[:40]}-{uuid4().hex[:8]}"
    )
    """This process's name; correlation ids begin with it."""
    clock_skew: Annotated[float, Field(ge=0)] = 2.0
    """Seconds by which the clocks of two machines may differ."""
    concurrency: Annotated[int, Field(ge=1)] = 64
    """Messages handled at once per consumer."""
    batch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of `concurrency` that the batch lane may use."""
    lease_ttl: Annotated[float, Field(ge=0.3, le=300)] = 10.0
    """Seconds after which another worker takes over the step of a dead one; heartbeats are sent every third of it."""
    stream_interval: Annotated[float, Field(ge=0)] = 0.015
    """Seconds for which text is collected into one stream event; the first event is sent at once."""
    admin_host: str = "127.0.0.1"
    """The interface on which `/healthz`, `/readyz` and `/metrics` are served."""
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Their port; 0 = any free port, None = not served."""
    admin_allowed_hosts: HostNames = ()
    """Comma-separated names allowed in the `Host` header besides `localhost`, `127.0.0.1` and `[::1]`.

    If `admin_host` is not loopback: empty = any name, and every IP address is allowed.
    """
    spans: bool = True
    """Write finished spans to `poise.spans`, so that `poise trace` can show a run without a collector."""
    otlp_endpoint: str | None = None
    """An OpenTelemetry collector's HTTP endpoint, `http://host:4318`; None = no export."""
    log_level: str = "INFO"
    state_dir: Path = Path(".poise")
    """The folder for a worker's local state that can be rebuilt, such as an index."""
    shared_dir: Path | None = None
    """The folder for state that the workers on this machine share, such as the draw's secret; None = `state_dir`."""

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @property
    def bootstrap(self) -> list[str]:
        """The bootstrap servers as a list."""
        return [part.strip() for part in self.broker.split(",") if part.strip()]
