"""The telemetry of one process: started and stopped with it."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.trace import Tracer

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.telemetry import metrics, tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from poise.telemetry.spans import SpanQueue

GRACE: Final = 3.0
"""Seconds for the export of the remaining data at `stop`."""


class Telemetry:
    """Sets up the telemetry that the settings enable: without a collector, `/metrics` and `poise.spans` it is free.

    OpenTelemetry's global state is not changed. The providers are held here, so that several may be started in one
    process; the last one started is active.

    Args:
        settings: `spans`, `otlp_endpoint`, `admin_port` and `instance` are used.
        tier: The tier, for `service.name`.
    """

    def __init__(self, settings: MeshSettings, tier: str) -> None:
        self._settings = settings
        self._tier = tier
        self._tracing: TracerProvider | None = None
        self._metering: MeterProvider | None = None
        self._tracer: Tracer | None = None
        self._recorder: metrics.Recorder | None = None
        self._exporters: tuple[SpanExporter, MetricExporter] | None = None
        self.spans: SpanQueue | None = None
        """Finished spans of runs, to write to `poise.spans`; None if disabled. Readable after `stop`."""
        self.exposition: Callable[[], bytes] | None = None
        """Returns the page of `/metrics` in Prometheus' text format; None if no admin port is set."""

    def start(self) -> None:
        """Start recording spans and metrics.

        Raises:
            SetupError: The collector's URL is invalid, or the extra `otlp` is not installed.
        """
        settings = self._settings
        if not settings.spans and not settings.otlp_endpoint and settings.admin_port is None:
            return
        if settings.otlp_endpoint:
            self._exporters = _otlp(settings.otlp_endpoint)

        from poise.telemetry import sdk  # noqa: PLC0415 - takes 150 ms, only if needed

        resource = sdk.resource(self._tier, settings.instance)
        if processors := self._processors():
            self._tracing = sdk.tracer_provider(resource, processors)
            self._tracer = self._tracing.get_tracer(tracing.SCOPE)
            tracing.activate(self._tracer)
        readers = self._readers()
        if settings.admin_port is not None:
            reader, self.exposition = sdk.prometheus_reader()
            readers.append(reader)
        if readers:
            self._metering, self._recorder = sdk.meter_provider(resource, readers)
            metrics.activate(self._recorder)

    async def stop(self) -> None:
        """Stop recording spans and metrics, and export the remaining data, for at most `GRACE` seconds."""
        if self._tracer is not None:
            tracing.deactivate(self._tracer)
        if self._recorder is not None:
            metrics.deactivate(self._recorder)
        closing = [asyncio.to_thread(p.shutdown) for p in (self._tracing, self._metering) if p is not None]
        self._tracing = self._metering = self._tracer = self._recorder = None
        if not closing:
            return
        tasks = [asyncio.ensure_future(c) for c in closing]
        _, late = await asyncio.wait(tasks, timeout=GRACE)
        if late:
            for exporter in self._exporters or ():
                exporter.shutdown()  # ends the wait between retries
        await asyncio.gather(*tasks)

    def _processors(self) -> "list[SpanProcessor]":
        processors: list[SpanProcessor] = []
        if self._settings.spans:
            from poise.telemetry.spans import SpanQueue  # noqa: PLC0415 - loads the SDK

            self.spans = SpanQueue()
            processors.append(self.spans)
        if self._exporters:
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - loads the SDK

            processors.append(BatchSpanProcessor(self._exporters[0]))
        return processors

    def _readers(self) -> "list[MetricReader]":
        if not self._exporters:
            return []
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - loads the SDK

        return [PeriodicExportingMetricReader(self._exporters[1])]


def _otlp(endpoint: str) -> "tuple[SpanExporter, MetricExporter]":
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SetupError(f"POISE_OTLP_ENDPOINT: {endpoint!r} is not the URL of a collector, such as http://host:4318")
    try:
        from poise.telemetry.otlp import exporters  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise SetupError(
            f"POISE_OTLP_ENDPOINT is set, but {error.name} is not installed: pip install 'poise[otlp]', or unset it"
        ) from error
    return exporters(endpoint)
