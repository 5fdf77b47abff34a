"""The integration tier's settings: which APIs there are, how each is asked, and what of its answer matters."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import quote, urlsplit

from jsonpointer import JsonPointer, JsonPointerException
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, StringConstraints, field_validator
from pydantic import model_validator as validator

from poise.contracts.ask import NAME
from poise.settings import Settings
from poise_services.integration.template import PARAMETER, fill, placeholders

IntegrationName = Annotated[str, StringConstraints(pattern=NAME)]
SecretName = Annotated[str, StringConstraints(pattern=rf"^{PARAMETER}$")]

PLAIN_HEADERS = frozenset({"accept", "accept-language", "cache-control", "content-type", "user-agent"})
"""Headers whose values are no secrets."""


class Api(BaseModel):
    """One question that can be put to somebody else's API."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """Its address, `https://host/path?q={question}`: a parameter stands in braces and is percent-encoded."""
    method: Literal["GET", "POST"] = "GET"
    """It may be sent more than once."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Sent along; a secret stands in braces: `Bearer {key}`."""
    secrets: Mapping[SecretName, SecretStr] = Field(default_factory=dict)
    """What may stand in braces beside parameters, and no parameter may replace. Taken out of whatever comes back."""
    body: JsonValue = None
    """Sent as JSON, with `POST`; parameters in braces stand in its strings."""
    pointer: str | None = None
    """The part of the answer that matters (JSON Pointer, RFC 6901); None = all of it, whatever it is."""
    source: str | None = None
    """What a reader knows it by; None = its name."""
    timeout: Annotated[float, Field(gt=0)] = 5.0
    """Seconds for one request, waiting for a free place included; the message's deadline always holds too."""
    connect_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds for opening a connection."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Requests at once, by each worker."""
    batch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of them that the batch lane may have, and of the turns while both lanes wait."""
    max_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    """The longest answer that is read."""
    stale_if_error: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which a good answer is kept, to stand in, marked, when there is no other; 0 = not at all."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be http://host/… or https://host/…")
        if "@" in parts.netloc or placeholders(parts.netloc):
            raise ValueError("its host must stand there as it is: no parameter, no user, no password")
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
            raise ValueError('a body goes with method = "POST"')
        unknown = {place for value in self.headers.values() for place in placeholders(value.get_secret_value())}
        if unknown := unknown - self.secrets.keys():
            raise ValueError(f"headers: {', '.join(sorted(unknown))} must be in secrets: a header takes no parameter")
        # The client would say what is wrong with it when the first request is sent, and quote it.
        wrong = [
            name for name, value in self.resolved_headers().items() if not (value.isascii() and value.isprintable())
        ]
        if wrong:
            raise ValueError(
                f"headers: {', '.join(sorted(wrong))} must be printable ASCII: look for a line feed at a secret's end"
            )
        return self

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that it must be given."""
        return frozenset((placeholders(self.url) | placeholders(self.body)) - self.secrets.keys())

    @property
    def address(self) -> str:
        """`host:port`, which may be logged; the rest may hold a secret."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{self.port}"

    @property
    def port(self) -> int:
        """The port, as written or as the scheme has it."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def resolved_headers(self) -> dict[str, str]:
        """The headers, with their secrets."""
        known = self.secret_values()
        return {name: str(fill(value.get_secret_value(), known)) for name, value in self.headers.items()}

    def secret_values(self) -> dict[str, str]:
        """The secrets, in the clear."""
        return {name: secret.get_secret_value() for name, secret in self.secrets.items()}

    def redacted_values(self) -> tuple[str, ...]:
        """Whatever must appear nowhere, the longest first: each secret, each header's value and its last word."""
        values = list(self.secret_values().values())
        for name, value in self.resolved_headers().items():
            if name.lower() not in PLAIN_HEADERS:
                values += [value, value.rpartition(" ")[2]]
        hidden = {form for value in values for form in _escaped_forms(value) if form}
        return tuple(sorted(hidden, key=len, reverse=True))


def _escaped_forms(value: str) -> Iterator[str]:
    """As it is, in an address, and in JSON as most write it, and as those do who escape slashes."""
    yield value
    yield quote(value, safe="")
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")


class IntegrationSettings(Settings):
    """What an integration worker needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_INTEGRATION_"}

    table: ClassVar[str] = "integration"

    integrations: dict[IntegrationName, Api] = Field(default_factory=dict, validate_default=True)
    """By the name that a request calls them by."""

    @field_validator("integrations")
    @classmethod
    def _at_least_one(cls, integrations: dict[str, Api]) -> dict[str, Api]:
        if not integrations:
            raise ValueError(
                "no integration is configured: set it to "
                '{"weather": {"url": "https://HOST/PATH?q={question}"}}, or give [integration.integrations.weather]'
            )
        return integrations
