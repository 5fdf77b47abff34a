"""OpenTelemetry's SDK, put together: the providers of one process. Imported when telemetry starts, not before."""

import socket
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from poise.telemetry import metrics, table
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


def tracing(who: Resource, processors: Iterable[SpanProcessor]) -> TracerProvider:
    """A provider of tracers; `OTEL_TRACES_SAMPLER` chooses what is sampled, everything by default."""
    provider = TracerProvider(resource=who, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def metering(
    who: Resource, readers: Iterable[MetricReader]
) -> tuple[MeterProvider, Mapping[table.Instrument, metrics.Record]]:
    """A provider of meters, and how each instrument of the table is recorded with it."""
    provider = MeterProvider(metric_readers=tuple(readers), resource=who, shutdown_on_exit=False)
    meter = provider.get_meter(SCOPE)
    recorders = {
        instrument: recorder
        for instrument in table.INSTRUMENTS.values()
        if (recorder := _instrument(meter, instrument)) is not None
    }
    return provider, recorders


def prometheus() -> tuple[MetricReader, Callable[[], bytes]]:
    """A reader for Prometheus, and the page that it scrapes: the table's metrics and those of the process itself."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return PrometheusMetricReader(registry=registry, scope_info_enabled=False), lambda: generate_latest(registry)


def _instrument(meter: Meter, instrument: table.Instrument) -> metrics.Record | None:
    name, unit, text = instrument.name, instrument.unit, instrument.description
    match instrument:
        case table.Counter():
            return meter.create_counter(name, unit, text).add
        case table.UpDown():
            return meter.create_up_down_counter(name, unit, text).add
        case table.Histogram():
            return meter.create_histogram(
                name, unit, text, explicit_bucket_boundaries_advisory=instrument.buckets
            ).record
        case table.Gauge():
            meter.create_observable_gauge(name, [_reading(instrument)], unit, text)
    return None


def _reading(gauge: table.Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, attributes) for value, attributes in metrics.observations(gauge)]

    return read
