"""The jars of the embedded Kafka: a pinned list, fetched once into the user's cache folder and checked from then on."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.stack.maven import Jar, fetch_jars
from poise.system.private_directory import make_private_directory

ProgressListener = Callable[[str], None]
"""Takes one line about the progress of something, for a person."""

VERIFIED_MTIME: Final = 1_600_000_000
"""The modification time (unix seconds) that a jar gets once its checksum was right. A jar with another one, or of
another size, is read whole again; the others are taken at their word, so that a warm check costs a few `stat`."""


def cache_directory() -> Path:
    """Where Poise keeps what it can fetch or make again: `$XDG_CACHE_HOME/poise`, else `~/.cache/poise`."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "poise"
    except RuntimeError as error:
        raise SetupError("no home directory to keep a cache in: set HOME or XDG_CACHE_HOME") from error


def load_jar_list() -> tuple[Jar, ...]:
    """The pinned list, `kafka.jars` beside this file."""
    return parse_jar_list((files("poise.stack") / "kafka.jars").read_text(encoding="utf-8"))


def parse_jar_list(text: str) -> tuple[Jar, ...]:
    """The jars of a list: `group:artifact:version`, bytes and SHA-256 on each line that is no comment."""
    return tuple(_parse(line) for line in text.splitlines() if line and not line.startswith("#"))


def _parse(line: str) -> Jar:
    coordinates, size, sha256 = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(group, artifact, version, int(size), sha256)


@contextmanager
def cache_errors(directory: Path) -> Iterator[None]:
    """Use the cache folder.

    Raises:
        SetupError: It cannot be.
    """
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"the cache folder {directory} cannot be used ({error.strerror}: {error.filename}): "
            "make it writable, or set XDG_CACHE_HOME to another"
        ) from error


class JarStore:
    """A folder of verified jars."""

    def __init__(self, directory: Path, jars: Iterable[Jar]) -> None:
        self.directory = directory
        self.jars = tuple(jars)

    @property
    def paths(self) -> list[Path]:
        """Where the jars are, in the list's order."""
        return [self.directory / jar.filename for jar in self.jars]

    def ensure(self, on_progress: ProgressListener, *, verify: bool = False) -> None:
        """Make every jar be there and be right; fetch those that are not.

        Args:
            on_progress: Told what is fetched and why.
            verify: Read every jar and compare its checksum, whatever its size and time are.

        Raises:
            SetupError: A jar is missing and cannot be fetched, or the folder cannot be written.
        """
        with cache_errors(self.directory):
            present = [jar for jar in self.jars if (self.directory / jar.filename).exists()]
            damaged = [jar for jar in present if not self._is_right(jar, verify=verify)]
            for jar in damaged:
                on_progress(f"{self.directory / jar.filename} is damaged: fetching it again")
            wanted = [jar for jar in self.jars if jar not in present or jar in damaged]
            if wanted:
                self._fetch_all(wanted, on_progress)

    def _is_right(self, jar: Jar, *, verify: bool) -> bool:
        path = self.directory / jar.filename
        stat = path.stat()
        if stat.st_size != jar.size:
            return False
        if not verify and stat.st_mtime == VERIFIED_MTIME:
            return True
        with path.open("rb") as file:
            right = hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
        if right:
            os.utime(path, (VERIFIED_MTIME, VERIFIED_MTIME))
        return right

    def _fetch_all(self, wanted: list[Jar], on_progress: ProgressListener) -> None:
        on_progress(f"fetching Apache Kafka, once: {len(wanted)} jars, {sum(jar.size for jar in wanted) / 1e6:.0f} MB")
        make_private_directory(self.directory)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.directory))
        try:
            for path in fetch_jars(sorted(wanted, key=lambda jar: -jar.size), partial):
                os.utime(path, (VERIFIED_MTIME, VERIFIED_MTIME))
                path.replace(self.directory / path.name)
        finally:
            shutil.rmtree(partial)
