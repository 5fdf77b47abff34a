"""AllowedHosts: checks the `Host` header of HTTP requests, as a defense against DNS rebinding.

A page from `evil.example` may point that name to 127.0.0.1 after it has loaded. The browser then treats this server as
the page's own origin, and the page can read its responses. The `Host` header reveals this, because a page cannot set
it.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _split(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A setting: host names without ports, comma-separated in an environment variable; `*` = any."""


class AllowedHosts:
    """The allowed values of the `Host` header.

    Args:
        bind: The interface that the server listens on. On loopback, `localhost`, `127.0.0.1`, `[::1]` and the interface
            itself are allowed. Elsewhere every IP address is allowed, because rebinding needs a
            name, and every name if `names` is empty.
        names: Further allowed names.
    """

    def __init__(self, bind: str, names: Collection[str] = ()) -> None:
        loopback = bind == "localhost" or (_is_address(bind) and ipaddress.ip_address(bind).is_loopback)
        self._any = "*" in names or not (loopback or names)
        self._addresses = not loopback
        interface = {bind} if _is_address(bind) else set()
        self._names = LOOPBACK_NAMES | interface | {name.lower().rstrip(".") for name in names}

    def allow(self, host: str | None) -> bool:
        """Return whether a request is allowed.

        Args:
            host: Its `Host` header; None = it has none (HTTP/1.0), which no browser sends.
        """
        if self._any or host is None:
            return True
        name = _host_name(host)
        return name in self._names or (self._addresses and _is_address(name))


def _host_name(host: str) -> str:
    """Return the name in `name:port` or `[address]:port`."""
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?", host)
    return host if match is None else (match[1] or match[2] or "").lower().rstrip(".")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
