"""Spans: opened by `with span(…)`, propagated in headers by `inject` and `extract` (W3C)."""

import asyncio
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from poise.telemetry import semconv

SCOPE = "poise"

_propagators = (TraceContextTextMapPropagator(), W3CBaggagePropagator())
_tracers: list[Tracer] = []
_host = trace.get_tracer(SCOPE)
"""The tracer of the application that uses Poise's client; records nothing if the application has no tracing."""


def activate(tracer: Tracer) -> None:
    """Open spans with this tracer from now on. Without one, the host application's tracer is used."""
    _tracers.append(tracer)


def deactivate(tracer: Tracer) -> None:
    """Stop using a tracer; the previous one becomes active again."""
    if tracer in _tracers:
        _tracers.remove(tracer)


class span:  # noqa: N801 - used like a function: with span("embed query")
    """A span as a context manager; spans opened inside become its children.

    An exception is recorded and propagated.

    Args:
        name: A name from `semconv`.
        kind: PRODUCER, CONSUMER, CLIENT, SERVER or INTERNAL.
        attributes: Names from `semconv`; values are strings, numbers, booleans or lists of these.
        parent: The context of the parent; None = the current span. For a message: `extract(envelope.trace)`.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_parent", "_span", "_token")

    _span: Span
    _token: Token[Context] | None

    def __init__(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        parent: Context | None = None,
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._parent = parent

    def __enter__(self) -> Span:
        self._token = None
        if self._parent is None and _unsampled(current := trace.get_current_span()):
            self._span = current
            return current
        tracer = _tracers[-1] if _tracers else _host
        self._span = tracer.start_span(
            self._name,
            self._parent,
            self._kind,
            self._attributes,
            record_exception=False,
            set_status_on_exception=False,
        )
        if self._parent is not None or self._span.get_span_context().is_valid:
            self._token = attach(set_span_in_context(self._span, self._parent))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        if self._span.is_recording():
            if error is not None:
                record_error(self._span, error)
            self._span.end()


def _unsampled(current: Span) -> bool:
    """Return whether a trace is not sampled; its spans then need no children."""
    context = current.get_span_context()
    return context.is_valid and not context.trace_flags.sampled and not current.is_recording()


def record_error(span: Span, error: BaseException) -> None:
    """Record an error on a span, without a stack trace: faults come in bursts, and dead letters have the traceback."""
    name = type(error).__qualname__
    detail = "cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
    span.set_attribute(semconv.ERROR_TYPE, name)
    span.add_event("exception", {"exception.type": name, "exception.message": detail})
    span.set_status(Status(StatusCode.ERROR, f"{name}: {detail}" if detail else name))


def current_span() -> Span:
    """Return the current span; if there is none, one that records nothing."""
    return trace.get_current_span()


def inject() -> dict[str, str]:
    """Return `traceparent`, `tracestate` and `baggage` of the current span, if any."""
    carrier: dict[str, str] = {}
    for propagator in _propagators:
        propagator.inject(carrier)
    return carrier


def extract(carried: Mapping[str, str]) -> Context:
    """Return the context in a message's trace headers; empty if there are none, or if they are invalid."""
    context = Context()
    # The propagators split at commas with a regular expression that takes quadratic time on a run of spaces.
    plain = {name: " ".join(value.split()) for name, value in carried.items()}
    for propagator in _propagators if carried else ():
        context = propagator.extract(plain, context)
    return context
