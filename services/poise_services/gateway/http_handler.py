"""The type of the gateway's HTTP handlers, which guards and limits wrap."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

HttpHandler = Callable[[Request], Awaitable[Response]]
