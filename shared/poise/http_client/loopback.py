"""Loopback: whether a host is this machine itself."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, is this machine's own: no proxy can reach it for us."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
