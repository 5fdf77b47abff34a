"""Public text: what is said to whoever asked names backends and integrations, never where they are.

An address in an answer tells a stranger what there is to attack behind the mesh. Logs and spans have them.
"""

import re
from typing import Final

HIDDEN: Final = "(address)"
_PORT: Final = r"(?::\d{1,5})?"
_IPV4: Final = r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}"
_LITERAL: Final = re.compile(
    rf"\('[^'()]{{1,100}}', \d{{1,5}}(?:, \d+, \d+)?\)"  # as Python's errors have it: ('127.0.0.1', 9092)
    rf"|(?<![\w.]){_IPV4}{_PORT}(?![\w.])"
    rf"|\[[0-9A-Fa-f:.]{{2,45}}\]{_PORT}"
    rf"|\blocalhost:\d{{1,5}}"
)


def without_addresses(text: str, *hosts: str) -> str:
    """The text without IP addresses, and without these hosts, their ports included."""
    text = _LITERAL.sub(HIDDEN, text)
    for host in hosts:
        # A name without a dot is a word too, `model`: only with its port is it an address.
        port = _PORT if "." in host else r":\d{1,5}"
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}{port}(?![\w-]|\.\w)", HIDDEN, text, flags=re.IGNORECASE)
    return text
