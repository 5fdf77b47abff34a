"""OpenTelemetry's SDK, put together: the providers of one process. Imported when telemetry starts, not before."""

import socket
from collections.abc import Callable, Iterable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from poise.telemetry import metrics, semconv
from poise.telemetry.tracing import SCOPE


def resource(tier: str, instance: str) -> Resource:
    """Who this process is; `OTEL_RESOURCE_ATTRIBUTES` may say more."""
    return Resource.create(
        {
            "service.name": f"poise-{tier}",
            "service.namespace": "poise",
            "service.instance.id": instance,
            "host.name": socket.gethostname(),
        }
    )


def tracer_provider(who: Resource, processors: Iterable[SpanProcessor]) -> TracerProvider:
    """A provider of tracers; `OTEL_TRACES_SAMPLER` chooses what is sampled, everything by default."""
    provider = TracerProvider(resource=who, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def meter_provider(who: Resource, readers: Iterable[MetricReader]) -> tuple[MeterProvider, metrics.Recorder]:
    """A provider of meters, and the recorder whose sums it reads."""
    provider = MeterProvider(
        metric_readers=tuple(readers),
        resource=who,
        exemplar_filter=AlwaysOffExemplarFilter(),  # nothing of ours shows them, and each measurement would pay
        shutdown_on_exit=False,
    )
    meter = provider.get_meter(SCOPE)
    instruments = semconv.INSTRUMENTS.values()
    recorder = metrics.Recorder(
        sums=[i for i in instruments if isinstance(i, semconv.Counter | semconv.UpDownCounter)],
        measures={i: _histogram(meter, i) for i in instruments if isinstance(i, semconv.Histogram)},
    )
    for instrument in instruments:
        _register(meter, instrument, recorder)
    return provider, recorder


def prometheus_reader() -> tuple[MetricReader, Callable[[], bytes]]:
    """A reader for Prometheus, and the page that it scrapes: the table's metrics and those of the process itself."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return PrometheusMetricReader(registry=registry, scope_info_enabled=False), lambda: generate_latest(registry)


def _histogram(meter: Meter, of: semconv.Histogram) -> metrics.Measure:
    return meter.create_histogram(
        of.name, of.unit, of.description, explicit_bucket_boundaries_advisory=of.buckets
    ).record


def _register(meter: Meter, of: semconv.Instrument, recorder: metrics.Recorder) -> None:
    match of:
        case semconv.Counter():
            read = _callback(lambda: recorder.sums(of))
            meter.create_observable_counter(of.name, [read], of.unit, of.description)
        case semconv.UpDownCounter():
            read = _callback(lambda: recorder.sums(of))
            meter.create_observable_up_down_counter(of.name, [read], of.unit, of.description)
        case semconv.Gauge():
            read = _callback(lambda: metrics.observations(of))
            meter.create_observable_gauge(of.name, [read], of.unit, of.description)


def _callback(source: Callable[[], list[metrics.Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value, attributes) for value, attributes in source()]
