"""Public text: texts for clients name backends and integrations, but never their addresses.

An address in a reply would show a client what there is to attack behind the mesh. Logs and spans have the addresses.
"""

import re
from typing import Final

REDACTED: Final = "(address)"
_PORT: Final = r"(?::\d{1,5})?"
_IPV4: Final = r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}"
_FILE: Final = "(?:toml|py|md|jsonl?|ya?ml|txt)"
"""Suffixes of files: a number after such a name is a line number, not a port."""
_LITERAL: Final = re.compile(
    rf"\('[^'()]{{1,255}}', \d{{1,5}}(?:, [^()]{{1,60}})?\)"  # as in Python's errors: ('127.0.0.1', 9092)
    rf"|(?<![\w.]){_IPV4}{_PORT}(?![\w.])"
    rf"|\[[0-9A-Fa-f:.]{{2,45}}\]{_PORT}"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,7}:(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6})?(?![\w:])"
    rf"|\blocalhost:\d{{1,5}}"
    r"|(?<=://)[^\s/'\"<>()]{1,255}"
    r"|(?<=\bhost=')[^']{1,255}|(?<=[\"'])[A-Za-z][\w.-]{0,255}:\d{4,5}(?=[\"'])"
    rf"|(?<=\bat )[A-Za-z][\w.-]{{0,255}}:\d{{1,5}}"  # as in Kafka's client: Connection at kafka:9092 closed
    rf"|(?<![\w.-])[A-Za-z][\w-]{{0,62}}(?:\.[\w-]{{1,63}}){{0,9}}\.(?!{_FILE}:)[\w-]{{1,63}}:\d{{2,5}}(?![\w.])"
)


_NAME: Final = re.compile(r"[\w.-]+(?::\d{1,5})?")
"""A possible host name, with its port."""


def redact_addresses(text: str, *hosts: str) -> str:
    """Return a text without IP addresses, dotted names with a port, and the given hosts with their ports."""
    named = {host.lower() for host in hosts}

    def hide(found: re.Match[str]) -> str:
        name, colon, _ = found[0].rstrip(".").partition(":")
        # A name without a dot may be a word, such as `model`; only with a port is it an address.
        return REDACTED if name.lower() in named and (colon or "." in name) else found[0]

    return _NAME.sub(hide, _LITERAL.sub(REDACTED, text))
