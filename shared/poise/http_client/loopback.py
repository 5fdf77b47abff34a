"""Loopback addresses."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or `localhost`, which no proxy can reach."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
