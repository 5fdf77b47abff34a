"""Telemetry of model calls, by OpenTelemetry's conventions for generative AI."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from poise.contracts import Completion, Generate
from poise.telemetry import Span, SpanKind, measure, semconv, span
from poise_services.inference.settings import Backend


class ModelTelemetry:
    """Spans and metrics of one backend."""

    def __init__(self, name: str, backend: Backend) -> None:
        self._span = semconv.chat_span(backend.model)
        self._attributes: Mapping[str, str] = {
            semconv.GEN_AI_OPERATION: "chat",
            semconv.GEN_AI_PROVIDER: "openai",
            semconv.GEN_AI_REQUEST_MODEL: backend.model,
            semconv.BACKEND: name,
        }
        self._server: Mapping[str, str | int] = {
            semconv.SERVER_ADDRESS: backend.url.host or "",
            semconv.SERVER_PORT: backend.url.port or 0,
        }

    @contextmanager
    def observe(self, request: Generate, *, waited: float) -> Iterator[Span]:
        """Record one request: its duration, and its error if there is one.

        Args:
            request: The chat.
            waited: Seconds that it waited for the concurrency limiter.
        """
        started = time.perf_counter()
        error_type: Mapping[str, str] = {}
        try:
            with span(
                self._span,
                kind=SpanKind.CLIENT,
                attributes={
                    **self._attributes,
                    **self._server,
                    semconv.GEN_AI_MAX_TOKENS: request.max_tokens,
                    semconv.GEN_AI_TEMPERATURE: request.temperature,
                    semconv.WAIT_MS: waited * 1_000,
                },
            ) as current:
                yield current
        except BaseException as error:
            error_type = {semconv.ERROR_TYPE: type(error).__qualname__}
            raise
        finally:
            measure(semconv.GEN_AI_DURATION, time.perf_counter() - started, {**self._attributes, **error_type})

    def record_completion(self, completion: Completion, request_span: Span) -> None:
        """Record the completion in the span of its request and in the token metrics."""
        usage = completion.usage
        request_span.set_attributes(
            {
                semconv.GEN_AI_RESPONSE_MODEL: completion.model,
                semconv.GEN_AI_FINISH_REASONS: [completion.finish_reason],
                semconv.GEN_AI_INPUT_TOKENS: usage.prompt_tokens,
                semconv.GEN_AI_OUTPUT_TOKENS: usage.completion_tokens,
            }
        )
        for kind, tokens in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            measure(semconv.GEN_AI_TOKENS, tokens, {**self._attributes, semconv.GEN_AI_TOKEN_TYPE: kind})
