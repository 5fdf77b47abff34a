"""The setup of OpenTelemetry's SDK: the providers of one process. Imported only when telemetry starts."""

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
    """Return the resource of this process; `OTEL_RESOURCE_ATTRIBUTES` may add attributes."""
    return Resource.create(
        {
            "service.name": f"poise-{tier}",
            "service.namespace": "poise",
            "service.instance.id": instance,
            "host.name": socket.gethostname(),
        }
    )


def tracer_provider(resource: Resource, processors: Iterable[SpanProcessor]) -> TracerProvider:
    """Return a tracer provider; `OTEL_TRACES_SAMPLER` sets the sampler, by default everything is sampled."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def meter_provider(resource: Resource, readers: Iterable[MetricReader]) -> tuple[MeterProvider, metrics.Recorder]:
    """Return a meter provider, and the recorder whose sums it reads."""
    provider = MeterProvider(
        metric_readers=tuple(readers),
        resource=resource,
        exemplar_filter=AlwaysOffExemplarFilter(),  # exemplars are not used, and each measurement would pay for them
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
    """Return a reader for Prometheus, and a function that returns its page: Poise's metrics and the process' own."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return PrometheusMetricReader(registry=registry, scope_info_enabled=False), lambda: generate_latest(registry)


def _histogram(meter: Meter, instrument: semconv.Histogram) -> metrics.RecordValue:
    return meter.create_histogram(
        instrument.name, instrument.unit, instrument.description, explicit_bucket_boundaries_advisory=instrument.buckets
    ).record


def _register(meter: Meter, instrument: semconv.Instrument, recorder: metrics.Recorder) -> None:
    match instrument:
        case semconv.Counter():
            read = _callback(lambda: recorder.sums(instrument))
            meter.create_observable_counter(instrument.name, [read], instrument.unit, instrument.description)
        case semconv.UpDownCounter():
            read = _callback(lambda: recorder.sums(instrument))
            meter.create_observable_up_down_counter(instrument.name, [read], instrument.unit, instrument.description)
        case semconv.Gauge():
            read = _callback(lambda: metrics.observations(instrument))
            meter.create_observable_gauge(instrument.name, [read], instrument.unit, instrument.description)


def _callback(source: Callable[[], list[metrics.Measurement]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value, attributes) for value, attributes in source()]
