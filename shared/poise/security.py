"""Security settings: TLS and SASL for the connection to the broker (`POISE_SECURITY__…`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Secret = Annotated[SecretStr, Field(min_length=1)]


class Security(BaseModel):
    """Kafka's `security.protocol` and the settings of each protocol. Files are PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    protocol: Protocol = "PLAINTEXT"
    """SSL is TLS; SASL_… authenticates with user name and password, SASL_PLAINTEXT without TLS."""
    ca_file: Path | None = None
    """Certificate authorities trusted to sign the broker's certificate; None = the system's."""
    cert_file: Path | None = None
    """The client's certificate and its chain, for a broker that requires one."""
    key_file: Path | None = None
    """The private key of `cert_file`; None = it is in `cert_file` too."""
    key_password: Secret | None = None
    """The password of the encrypted private key; None = the key is not encrypted."""
    check_hostname: bool = True
    """Whether the broker's certificate must match the host name of the connection."""
    mechanism: Mechanism | None = None
    """The SASL mechanism. PLAIN sends the password unencrypted, so use it with SASL_SSL."""
    username: Annotated[str, Field(min_length=1)] | None = None
    password: Secret | None = None

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> bool:
        """Whether the client authenticates with user name and password."""
        return self.protocol.startswith("SASL_")

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _file_exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}: correct the path, or create the PEM file")
        return path

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if contradictions := list(self._contradictions()):
            raise ValueError("; ".join(contradictions))
        return self

    def _contradictions(self) -> Iterator[str]:
        given = self.model_fields_set - {name for name, value in self if value is None}
        tls = sorted(given & {"ca_file", "cert_file", "key_file", "key_password", "check_hostname"})
        if tls and not self.tls:
            yield f"{', '.join(tls)} would not be used by protocol {self.protocol}: choose SSL or SASL_SSL, or unset it"
        required = {"mechanism", "username", "password"}
        if self.sasl and required - given:
            yield f"protocol {self.protocol} needs {', '.join(sorted(required - given))} too"
        if not self.sasl and required & given:
            yield (
                f"{', '.join(sorted(required & given))} would not be used by protocol {self.protocol}: "
                "choose SASL_SSL, or unset it"
            )
        for name in sorted(given & {"key_file", "key_password"}):
            if self.cert_file is None:
                yield f"{name} has no effect without cert_file: set cert_file, or unset it"
