"""Allowed hosts: which `Host` headers an HTTP server answers, so that no web page can reach it by a name of its own.

A page from `evil.example` may have that name point to 127.0.0.1 once it is loaded (DNS rebinding): to the browser, this
server is then the page's own, and the page reads what it answers. What gives it away is the header `Host`, which a page
cannot set.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _split(given: object) -> object:
    return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given


HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A setting: names without ports, in a variable with commas between them; `*` = any."""


class AllowedHosts:
    """What `Host` may say.

    Args:
        bind: The interface that is listened on. On loopback, what is not named must be `localhost`, `127.0.0.1`,
            `[::1]` or the interface itself; elsewhere it may be any name if none is named, and any IP address: no page
            can come from there.
        names: The names that are allowed besides.
    """

    def __init__(self, bind: str, names: Collection[str] = ()) -> None:
        loopback = bind == "localhost" or (_is_address(bind) and ipaddress.ip_address(bind).is_loopback)
        self._any = "*" in names or not (loopback or names)
        self._addresses = not loopback
        own = {bind} if _is_address(bind) else set()
        self._names = LOOPBACK_NAMES | own | {name.lower().rstrip(".") for name in names}

    def allow(self, host: str | None) -> bool:
        """Whether a request is answered.

        Args:
            host: Its header `Host`; None = it has none, as HTTP/1.0 allows: no browser sends that.
        """
        if self._any or host is None:
            return True
        name = _host_name(host)
        return name in self._names or (self._addresses and _is_address(name))


def _host_name(host: str) -> str:
    """The name in `name:port` or `[address]:port`."""
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?", host)
    return host if found is None else (found[1] or found[2] or "").lower().rstrip(".")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
