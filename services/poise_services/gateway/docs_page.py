"""`/docs`: Swagger UI, served from the package, so that it works offline."""

from importlib.resources import files
from typing import Final

from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from poise_services.gateway.problems import NotFoundError

PATH: Final = "/docs"
_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""The page loads nothing from other origins, and other origins cannot frame it."""


class DocsPage:
    """Serves the page and its files."""

    def __init__(self, title: str) -> None:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=title,
            swagger_js_url=f"{PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{PATH}/swagger-ui.css",
            swagger_favicon_url=f"{PATH}/favicon-32x32.png",
        )
        self._page = bytes(page.body)
        folder = files("fastapi_swagger") / "resources"
        self._files = {name: (folder / name).read_bytes() for name in _FILES}

    async def page(self, _request: Request) -> Response:
        """Answer `GET /docs`."""
        return Response(self._page, headers=_HEADERS, media_type="text/html")

    async def file(self, request: Request) -> Response:
        """Answer `GET /docs/{file}`.

        Raises:
            NotFoundError: The page has no such file.
        """
        name = request.path_params["file"]
        if name not in self._files:
            raise NotFoundError(f"{PATH} has no such file, only {', '.join(self._files)}")
        return Response(self._files[name], headers=_HEADERS, media_type=_FILES[name])
