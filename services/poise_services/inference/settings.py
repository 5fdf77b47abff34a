"""The inference tier's settings: the model servers and their limits."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, StringConstraints, field_validator

from poise.settings import Settings

BackendName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,80}$")]


class Backend(BaseModel):
    """One model of a model server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl
    """The server's base address; `/v1` is appended if it has no path."""
    model: Annotated[str, Field(min_length=1)]
    """The model's name on the server."""
    api_key: SecretStr | None = None
    """Sent as a bearer token."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for one request, including time queued for a slot; the message's deadline applies too."""
    connect_timeout: Annotated[float, Field(gt=0)] = 5.0
    """Seconds to open a connection."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Concurrent requests to this backend per worker; as many connections stay open."""
    batch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of them for the batch lane, and its share of released slots while both lanes queue."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The server's name of the limit of generated tokens; newer OpenAI models reject `max_tokens`."""
    stream: bool = True
    """Stream if the caller requests it; False for a server without streaming."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: HttpUrl) -> HttpUrl:
        if url.username or url.password:
            raise ValueError("must not carry a user or password: addresses are logged, put the secret into api_key")
        if url.query or url.fragment:
            raise ValueError("must not have a query or a fragment")
        return url

    @property
    def endpoint(self) -> str:
        """The address of the chat completions API."""
        path = (self.url.path or "").rstrip("/") or "/v1"
        return f"{self.url.scheme}://{self.address}{path}/chat/completions"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.url.host}:{self.url.port}"


class InferenceSettings(Settings):
    """Settings of an inference worker."""

    model_config = Settings.model_config | {"env_prefix": "POISE_INFERENCE_"}

    table: ClassVar[str] = "inference"

    backends: dict[BackendName, Backend] = Field(default_factory=dict, validate_default=True)
    """Backends by name; a request without a name uses `default`."""

    @field_validator("backends")
    @classmethod
    def _at_least_one(cls, backends: dict[str, Backend]) -> dict[str, Backend]:
        if not backends:
            raise ValueError(
                "no model server is configured: set it to "
                '{"default": {"url": "http://127.0.0.1:8080", "model": "NAME"}}, or give [inference.backends.default]'
            )
        return backends
