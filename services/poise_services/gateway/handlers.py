"""The gateway's handlers, in one table of routes."""

from functools import partial
from typing import Any, Final

from fastapi import FastAPI

from poise.allowed_hosts import AllowedHosts
from poise.dead_letters.admin import DeadLetterAdmin
from poise.ingestion.epoch_validator import EpochValidator
from poise.worker.connection import MeshConnection
from poise_services.gateway import docs_page, openapi, openapi_parts
from poise_services.gateway.admin_guard import AdminGuard
from poise_services.gateway.ask_endpoint import AskEndpoint
from poise_services.gateway.dead_letters import DeadLetterEndpoints
from poise_services.gateway.docs_page import DocsPage
from poise_services.gateway.documents import DocumentEndpoints
from poise_services.gateway.feedback import FeedbackEndpoint
from poise_services.gateway.health import HealthEndpoints
from poise_services.gateway.host_guard import HostGuard
from poise_services.gateway.http_handler import HttpHandler
from poise_services.gateway.metrics_middleware import MetricsMiddleware
from poise_services.gateway.problems import install_error_handlers
from poise_services.gateway.runs import RunEndpoints
from poise_services.gateway.settings import GatewaySettings
from poise_services.gateway.write_limits import WriteRateLimiter

DEAD_LETTERS_PATH: Final = "/v1/admin/dead-letters"
DEAD_LETTER_ID: Final = "{tier}/{partition}/{offset}"

_NO_FRAMEWORK_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False}
"""Disables the framework's telemetry: Poise has its own spans and metrics."""


class Gateway:
    """The HTTP application and its endpoints.

    Args:
        mesh: The connection to the broker.
        settings: The gateway's settings.
        epochs: Rejects requested epochs that no index can reach; None = leave that to retrieval.
    """

    def __init__(self, mesh: MeshConnection, settings: GatewaySettings, epochs: EpochValidator | None = None) -> None:
        writes = WriteRateLimiter(settings.limits)
        runs = RunEndpoints(mesh, settings, writes)
        documents = DocumentEndpoints(mesh.logs, mesh.producer, settings)
        feedback = FeedbackEndpoint(mesh.producer)
        dead_letters = DeadLetterEndpoints(DeadLetterAdmin(mesh.logs, mesh.settings.tenant))
        require_token = AdminGuard(settings).require_token
        health = HealthEndpoints(mesh.readiness)
        docs = DocsPage("Poise")
        self.asks = AskEndpoint(mesh.rpc, settings, runs, epochs)
        self.app = _new_app(settings)
        routes: list[tuple[str, str, HttpHandler, dict[str, Any]]] = [
            ("POST", "/v1/ask", self.asks.ask, openapi.ASK),
            ("POST", "/v1/documents", documents.publish, openapi.PUBLISH_DOCUMENTS),
            ("DELETE", "/v1/documents/{id:path}", writes.limit(documents.delete), openapi.DELETE_DOCUMENT),
            ("POST", "/v1/feedback", writes.limit(feedback.submit), openapi.GIVE_FEEDBACK),
            ("GET", "/v1/runs/{id}", runs.show, openapi.SHOW_RUN),
            ("DELETE", "/v1/runs/{id}", writes.limit(runs.cancel), openapi.CANCEL_RUN),
            ("GET", DEAD_LETTERS_PATH, require_token(dead_letters.list), openapi.LIST_DEAD_LETTERS),
            (
                "GET",
                f"{DEAD_LETTERS_PATH}/{DEAD_LETTER_ID}",
                require_token(dead_letters.show),
                openapi.SHOW_DEAD_LETTER,
            ),
            ("POST", f"{DEAD_LETTERS_PATH}/redrive", require_token(dead_letters.redrive), openapi.REDRIVE),
            ("POST", f"{DEAD_LETTERS_PATH}/purge", require_token(dead_letters.purge), openapi.PURGE),
            ("GET", docs_page.PATH, docs.page, {"include_in_schema": False}),
            ("GET", f"{docs_page.PATH}/{{file}}", docs.file, {"include_in_schema": False}),
            *((method, "/healthz", health.liveness, openapi.HEALTHZ[method]) for method in ("GET", "HEAD")),
            *((method, "/readyz", health.readiness, openapi.READYZ[method]) for method in ("GET", "HEAD")),
        ]
        for method, path, handler, description in routes:
            self.app.add_api_route(path, handler, methods=[method], **description)


def _new_app(settings: GatewaySettings) -> FastAPI:
    app = FastAPI(
        title="Poise",
        version=openapi.VERSION,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_FRAMEWORK_TELEMETRY,
    )
    app.openapi = partial(openapi_parts.build_document, app)  # type: ignore[method-assign]  # the documented way to extend it
    app.add_middleware(HostGuard, AllowedHosts(settings.host, settings.allowed_hosts))
    app.add_middleware(MetricsMiddleware)
    install_error_handlers(app)
    return app
