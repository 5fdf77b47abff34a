"""Liveness and readiness of the gateway."""

from collections.abc import Callable, Mapping

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from poise.contracts import FieldError
from poise.errors import UnavailableError
from poise_services.gateway.problems import problem_response


class HealthEndpoints:
    """Endpoints for load balancers."""

    def __init__(self, readiness: Callable[[], Mapping[str, bool]]) -> None:
        self._readiness = readiness

    async def liveness(self, _request: Request) -> Response:
        """Answer `GET /healthz`: the event loop runs."""
        return JSONResponse({"status": "ok"})

    async def readiness(self, _request: Request) -> Response:
        """Answer `GET /readyz`: 503 names the conditions that are not met."""
        checks = self._readiness()
        missing = tuple(FieldError(field=name, detail="is not met") for name, met in checks.items() if not met)
        if not missing:
            return JSONResponse({"ready": True, "checks": checks})
        fault = UnavailableError(f"not ready: {', '.join(item.field for item in missing)}").fault()
        return problem_response(fault.model_copy(update={"errors": missing}))
