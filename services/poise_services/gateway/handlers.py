"""The gateway's handlers: what answers which request, in one table."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from poise.allowed_hosts import AllowedHosts
from poise.dead_letters.admin import DeadLetterAdmin
from poise.ingestion.epoch_check import EpochCheck
from poise.worker.connection import MeshConnection
from poise_services.gateway import docs_page, openapi, openapi_parts
from poise_services.gateway.admin import Admin
from poise_services.gateway.ask_endpoint import AskEndpoint
from poise_services.gateway.dead_letters import DeadLetters
from poise_services.gateway.docs_page import DocsPage
from poise_services.gateway.documents import Documents
from poise_services.gateway.feedback import Feedbacks
from poise_services.gateway.health import Health
from poise_services.gateway.host_guard import HostGuard
from poise_services.gateway.metrics_middleware import Observed
from poise_services.gateway.problems import handle_problems
from poise_services.gateway.runs import Runs
from poise_services.gateway.settings import GatewaySettings
from poise_services.gateway.write_limits import WriteLimits

Handler = Callable[[Request], Awaitable[Response]]

DEAD_LETTERS: Final = "/v1/admin/dead-letters"

_OWN_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False}
"""The framework's is left off: spans and metrics are Poise's, and go where the mesh's settings say."""


class Gateway:
    """The application and what it consists of.

    Args:
        mesh: The connection.
        settings: The gateway's.
        epochs: Refuses epochs that cannot exist; None = retrieval alone does.
    """

    def __init__(self, mesh: MeshConnection, settings: GatewaySettings, epochs: EpochCheck | None = None) -> None:
        writes = WriteLimits(settings.limits)
        runs = Runs(mesh, settings, writes)
        documents = Documents(mesh.logs, mesh.producer, settings)
        health, page = Health(mesh.readiness), DocsPage("Poise")
        dead, only = DeadLetters(DeadLetterAdmin(mesh.logs, mesh.settings.tenant)), Admin(settings).only
        self.asks = AskEndpoint(mesh.rpc, settings, runs, epochs)
        self.app = _new_app(settings)
        routes: list[tuple[str, str, Handler, dict[str, Any]]] = [
            ("POST", "/v1/ask", self.asks.ask, openapi.ASK),
            ("POST", "/v1/documents", documents.put, openapi.PUT_DOCUMENTS),
            ("DELETE", "/v1/documents/{id:path}", writes.guard(documents.delete), openapi.DELETE_DOCUMENT),
            ("POST", "/v1/feedback", writes.guard(Feedbacks(mesh.producer).give), openapi.GIVE_FEEDBACK),
            ("GET", "/v1/runs/{id}", runs.show, openapi.SHOW_RUN),
            ("DELETE", "/v1/runs/{id}", writes.guard(runs.cancel), openapi.CANCEL_RUN),
            ("GET", DEAD_LETTERS, only(dead.list), openapi.LIST_DEAD_LETTERS),
            ("GET", f"{DEAD_LETTERS}/{{tier}}/{{partition}}/{{offset}}", only(dead.show), openapi.SHOW_DEAD_LETTER),
            ("POST", f"{DEAD_LETTERS}/redrive", only(dead.redrive), openapi.REDRIVE),
            ("POST", f"{DEAD_LETTERS}/purge", only(dead.purge), openapi.PURGE),
            ("GET", docs_page.PATH, page.page, {"include_in_schema": False}),
            ("GET", f"{docs_page.PATH}/{{file}}", page.file, {"include_in_schema": False}),
            *((method, "/healthz", health.alive, openapi.HEALTHZ[method]) for method in ("GET", "HEAD")),
            *((method, "/readyz", health.ready, openapi.READYZ[method]) for method in ("GET", "HEAD")),
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
        telemetry=_OWN_TELEMETRY,
    )
    app.openapi = partial(openapi_parts.describe, app)  # type: ignore[method-assign]  # the documented way to extend it
    app.add_middleware(HostGuard, AllowedHosts(settings.host, settings.allowed_hosts))
    app.add_middleware(Observed)
    handle_problems(app)
    return app
