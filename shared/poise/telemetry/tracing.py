"""Spans: opened with `with span(…)`, carried across the wire by `inject` and `extract` (W3C)."""

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
"""Of the application that Poise's client is used in; records nothing where that does no tracing."""


def activate(tracer: Tracer) -> None:
    """Open spans with this tracer from now on. A host application's own tracing is used where none is set."""
    _tracers.append(tracer)


def deactivate(tracer: Tracer) -> None:
    """Take a tracer out of use; the one before it is used again."""
    if tracer in _tracers:
        _tracers.remove(tracer)


class span:  # noqa: N801 - reads as the verb it is: with span("embed query")
    """One piece of work, as a context manager; spans opened within become its children.

    An error that leaves it is recorded and goes on.

    Args:
        name: From `table`.
        kind: Its side of a call: PRODUCER, CONSUMER, CLIENT, SERVER or INTERNAL.
        attributes: Names from `table`; values are strings, numbers, booleans or lists of these.
        parent: Where it hangs; None = the current span. For a message: `extract(envelope.trace)`.
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
    """Whether a trace was decided against: below its spans nothing needs to be asked or made."""
    context = current.get_span_context()
    return context.is_valid and not context.trace_flags.sampled and not current.is_recording()


def record_error(span: Span, error: BaseException) -> None:
    """Say on a span how it failed. No stack trace: faults come in floods, and dead letters hold theirs."""
    name = type(error).__qualname__
    detail = "cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
    span.set_attribute(semconv.ERROR_TYPE, name)
    span.add_event("exception", {"exception.type": name, "exception.message": detail})
    span.set_status(Status(StatusCode.ERROR, f"{name}: {detail}" if detail else name))


def current_span() -> Span:
    """The innermost open span; one that records nothing where there is none."""
    return trace.get_current_span()


def inject() -> dict[str, str]:
    """`traceparent`, `tracestate` and `baggage` of the current span, as far as it has them."""
    carrier: dict[str, str] = {}
    for propagator in _propagators:
        propagator.inject(carrier)
    return carrier


def extract(carried: Mapping[str, str]) -> Context:
    """The parent that came with a message; an empty context where none did, or where it cannot be read."""
    context = Context()
    # The propagators split at commas with a pattern that takes quadratic time on a run of spaces.
    plain = {name: " ".join(value.split()) for name, value in carried.items()}
    for propagator in _propagators if carried else ():
        context = propagator.extract(plain, context)
    return context
