"""Security: how the broker is connected to, TLS and SASL, as the settings have it (`POISE_SECURITY__…`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Secret = Annotated[SecretStr, Field(min_length=1)]


class Security(BaseModel):
    """What Kafka calls `security.protocol`, and what each protocol needs. Files are PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    protocol: Protocol = "PLAINTEXT"
    """SSL is TLS; SASL_… sends a user's name and password, SASL_PLAINTEXT without TLS."""
    ca_file: Path | None = None
    """The authorities of which one must have signed the broker's certificate; None = those the system trusts."""
    cert_file: Path | None = None
    """Our certificate and its chain, for a broker that asks for one."""
    key_file: Path | None = None
    """The private key of `cert_file`; None = it is in `cert_file` too."""
    key_password: Secret | None = None
    """What the private key is encrypted with; None = it is not."""
    check_hostname: bool = True
    """Whether the broker's certificate must be for the name that we connect to."""
    mechanism: Mechanism | None = None
    """SASL's mechanism; PLAIN shows the password to whoever reads the connection, so it wants SASL_SSL."""
    username: Annotated[str, Field(min_length=1)] | None = None
    password: Secret | None = None

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> bool:
        """Whether a user's name and password are sent."""
        return self.protocol.startswith("SASL_")

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}: correct the path, or put the PEM file there")
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if found := list(self._contradictions()):
            raise ValueError("; ".join(found))
        return self

    def _contradictions(self) -> Iterator[str]:
        given = self.model_fields_set - {name for name, value in self if value is None}
        tls = sorted(given & {"ca_file", "cert_file", "key_file", "key_password", "check_hostname"})
        if tls and not self.tls:
            yield f"{', '.join(tls)} would not be used by protocol {self.protocol}: choose SSL or SASL_SSL, or unset it"
        needed = {"mechanism", "username", "password"}
        if self.sasl and needed - given:
            yield f"protocol {self.protocol} needs {', '.join(sorted(needed - given))} too"
        if not self.sasl and needed & given:
            yield (
                f"{', '.join(sorted(needed & given))} would not be used by protocol {self.protocol}: "
                "choose SASL_SSL, or unset it"
            )
        for name in sorted(given & {"key_file", "key_password"}):
            if self.cert_file is None:
                yield f"{name} is of no use without cert_file"
