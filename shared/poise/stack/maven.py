"""Maven: fetch jars by their coordinates, in parallel, and take nothing whose checksum is not the expected one."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.http_client.body import ACCEPT_ENCODING
from poise.text.error_text import error_message

_CONNECTIONS: Final = 6
_TIMEOUT: Final = 20.0
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar by its Maven coordinates."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in a repository and in a folder of ours."""
        return f"{self.artifact}-{self.version}.jar"


class _DamagedError(Exception):
    """What was sent is not what the list promises."""


def _beginning(pieces: Iterable[bytes], size: int) -> bytes:
    """At most so many bytes of a body, as they are sent: nothing is inflated before its checksum is known."""
    content = bytearray()
    for piece in pieces:
        content += piece[: size - len(content)]
        if len(content) == size:
            break
    return bytes(content)


def fetch_jars(jars: Sequence[Jar], directory: Path) -> Iterator[Path]:
    """Fetch jars into a folder, yielding each one's path in the order asked.

    jgo knows where the repository is and how it is laid out; its own download opens two new connections for each file,
    which takes ten times as long as what is done here (measured: 3.2 s against 0.3 s for 45 jars).

    Raises:
        SetupError: The repository cannot be reached, or sends something else than expected.
    """
    try:  # at the first start only: a warm one must not pay for these imports
        import httpx2  # noqa: PLC0415
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError as error:
        raise SetupError(f"{error.name} is not installed: pip install 'poise[embedded]'") from error

    context = MavenContext(repo_cache=directory)
    repository = next(iter(context.remote_repos.values()))

    def get(client: httpx2.Client, url: str, size: int) -> bytes:
        for _ in range(_TRIES - 1):
            with suppress(httpx2.TransportError):
                return get_once(client, url, size)
        return get_once(client, url, size)

    def get_once(client: httpx2.Client, url: str, size: int) -> bytes:
        with client.stream("GET", url, headers=ACCEPT_ENCODING) as response:
            return _beginning(response.raise_for_status().iter_raw(), size + 1)

    def fetch_one(jar: Jar) -> Path:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        content = get(client, f"{repository}/{component.path_prefix.as_posix()}/{jar.filename}", jar.size)
        if hashlib.sha256(content).hexdigest() != jar.sha256:
            raise _DamagedError(jar.filename)
        path = directory / jar.filename
        path.write_bytes(content)
        return path

    with httpx2.Client(timeout=_TIMEOUT, follow_redirects=True) as client, ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            yield from pool.map(fetch_one, jars)
        except httpx2.HTTPError as error:
            pool.shutdown(cancel_futures=True)
            raise SetupError(
                f"Apache Kafka could not be fetched ({error_message(error)}): connect to the network for this first "
                "start (set HTTPS_PROXY if you need one), or use a Kafka that runs already: --broker host:port"
            ) from error
        except _DamagedError as error:
            pool.shutdown(cancel_futures=True)
            raise SetupError(
                f"what the repository sent as {error} has not the checksum that this version of Poise expects: try "
                "again, and if it stays so look at the proxy between you and the repository"
            ) from error
