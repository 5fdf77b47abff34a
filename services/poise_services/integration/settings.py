"""The integration tier's settings: the APIs, their requests, and the relevant part of their responses."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import quote, urlsplit

from jsonpointer import JsonPointer, JsonPointerException
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, StringConstraints, field_validator
from pydantic import model_validator as validator

from poise.contracts.ask import NAME_PATTERN
from poise.settings import Settings
from poise_services.integration.template import PARAMETER, fill, placeholders

IntegrationName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
SecretName = Annotated[str, StringConstraints(pattern=rf"^{PARAMETER}$")]

PLAIN_HEADERS = frozenset({"accept", "accept-language", "cache-control", "content-type", "user-agent"})
"""Headers whose values are not secret."""


class Api(BaseModel):
    """One endpoint of a third-party API."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """The address, `https://host/path?q={question}`: parameters are in braces, and are percent-encoded."""
    method: Literal["GET", "POST"] = "GET"
    """A request may be sent more than once."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Request headers; secrets are in braces: `Bearer {key}`."""
    secrets: Mapping[SecretName, SecretStr] = Field(default_factory=dict)
    """Values for braces besides parameters, which cannot replace them. Redacted in responses and errors."""
    body: JsonValue = None
    """Sent as JSON, with `POST`; its strings may have parameters in braces."""
    pointer: str | None = None
    """The relevant part of the response (JSON Pointer, RFC 6901); None = the whole response, of any type."""
    source: str | None = None
    """The name that citations show; None = the integration's name."""
    timeout: Annotated[float, Field(gt=0)] = 5.0
    """Seconds for one request, including time queued for a slot; the message's deadline applies too."""
    connect_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds to open a connection."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Concurrent requests per worker."""
    batch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of them for the batch lane, and its share of released slots while both lanes queue."""
    max_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    """Bytes of the largest response that is read."""
    stale_if_error: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which a good response may replace a failure, marked as stale; 0 = never."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be http://host/… or https://host/…")
        if "@" in parts.netloc or placeholders(parts.netloc):
            raise ValueError("its host must be literal: no parameter, no user, no password")
        if parts.fragment:
            raise ValueError("must not have a fragment")
        return url

    @field_validator("pointer")
    @classmethod
    def _a_pointer(cls, pointer: str | None) -> str | None:
        if pointer is not None:
            try:
                JsonPointer(pointer)
            except JsonPointerException as error:
                raise ValueError("must be a JSON Pointer (RFC 6901): empty, or /name/0/name") from error
        return pointer

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.body is not None and self.method == "GET":
            raise ValueError('a body requires method = "POST"')
        used = {name for value in self.headers.values() for name in placeholders(value.get_secret_value())}
        if unknown := used - self.secrets.keys():
            raise ValueError(
                f"headers: {', '.join(sorted(unknown))} must be in secrets: a header cannot have parameters"
            )
        # Otherwise the HTTP client would reject it at the first request, and quote the secret in its error.
        invalid = [
            name for name, value in self.resolved_headers().items() if not (value.isascii() and value.isprintable())
        ]
        if invalid:
            raise ValueError(
                f"headers: {', '.join(sorted(invalid))} must be printable ASCII: look for a line feed at a secret's end"
            )
        return self

    @property
    def parameters(self) -> frozenset[str]:
        """The required parameters."""
        return frozenset((placeholders(self.url) | placeholders(self.body)) - self.secrets.keys())

    @property
    def address(self) -> str:
        """`host:port`, which may be logged; the rest may contain secrets."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{self.port}"

    @property
    def port(self) -> int:
        """The port, or the scheme's default."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def resolved_headers(self) -> dict[str, str]:
        """Return the headers with their secrets filled in."""
        secrets = self.secret_values()
        return {name: str(fill(value.get_secret_value(), secrets)) for name, value in self.headers.items()}

    def secret_values(self) -> dict[str, str]:
        """Return the secrets as plain text."""
        return {name: secret.get_secret_value() for name, secret in self.secrets.items()}

    def redacted_values(self) -> tuple[str, ...]:
        """Return what must be redacted, longest first: each secret, each header's value and its last word."""
        values = list(self.secret_values().values())
        for name, value in self.resolved_headers().items():
            if name.lower() not in PLAIN_HEADERS:
                values += [value, value.rpartition(" ")[2]]
        redacted = {form for value in values for form in _escaped_forms(value) if form}
        return tuple(sorted(redacted, key=len, reverse=True))


def _escaped_forms(value: str) -> Iterator[str]:
    """Yield a value as it is, percent-encoded, and in JSON with and without escapes of non-ASCII and slashes."""
    yield value
    yield quote(value, safe="")
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")


class IntegrationSettings(Settings):
    """Settings of an integration worker."""

    model_config = Settings.model_config | {"env_prefix": "POISE_INTEGRATION_"}

    table: ClassVar[str] = "integration"

    integrations: dict[IntegrationName, Api] = Field(default_factory=dict, validate_default=True)
    """Integrations by the name in requests."""

    @field_validator("integrations")
    @classmethod
    def _at_least_one(cls, integrations: dict[str, Api]) -> dict[str, Api]:
        if not integrations:
            raise ValueError(
                "no integration is configured: set it to "
                '{"weather": {"url": "https://HOST/PATH?q={question}"}}, or give [integration.integrations.weather]'
            )
        return integrations
