"""The jars of the embedded Kafka: a pinned list, downloaded once into the user's cache directory and verified."""

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
"""Receives a line of progress, for a person."""

VERIFIED_MTIME: Final = 1_600_000_000
"""The modification time (unix seconds) of a jar whose checksum has been verified.

A jar with another time or size is hashed again; the others are trusted, so that a warm check costs a `stat` per jar."""


def cache_directory() -> Path:
    """Return the directory for what can be downloaded or built again: `$XDG_CACHE_HOME/poise`, else `~/.cache/poise`.

    Raises:
        SetupError: The user has no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "poise"
    except RuntimeError as error:
        raise SetupError("there is no home directory for the cache: set HOME or XDG_CACHE_HOME") from error


def load_jar_list() -> tuple[Jar, ...]:
    """Return the pinned list, `kafka.jars` beside this file."""
    return parse_jar_list((files("poise.stack") / "kafka.jars").read_text(encoding="utf-8"))


def parse_jar_list(text: str) -> tuple[Jar, ...]:
    """Parse a list of jars: `group:artifact:version`, bytes and SHA-256 on each line that is not a comment."""
    return tuple(_parse(line) for line in text.splitlines() if line and not line.startswith("#"))


def _parse(line: str) -> Jar:
    coordinates, size, sha256 = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(group, artifact, version, int(size), sha256)


@contextmanager
def cache_errors(directory: Path) -> Iterator[None]:
    """Translate errors of the cache directory.

    Raises:
        SetupError: The directory cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"the cache directory {directory} cannot be used ({error.strerror}: {error.filename}): "
            "make it writable, or set XDG_CACHE_HOME to another"
        ) from error


class JarStore:
    """A directory of verified jars."""

    def __init__(self, directory: Path, jars: Iterable[Jar]) -> None:
        self.directory = directory
        self.jars = tuple(jars)

    @property
    def paths(self) -> list[Path]:
        """The paths of the jars, in the list's order."""
        return [self.directory / jar.filename for jar in self.jars]

    def ensure(self, on_progress: ProgressListener, *, verify: bool = False) -> None:
        """Verify every jar, and download those that are missing or damaged.

        Args:
            on_progress: Receives what is downloaded and why.
            verify: Hash every jar, even if its size and time match.

        Raises:
            SetupError: A missing jar cannot be downloaded, or the directory cannot be written.
        """
        with cache_errors(self.directory):
            present = [jar for jar in self.jars if (self.directory / jar.filename).exists()]
            damaged = [jar for jar in present if not self._is_valid(jar, verify=verify)]
            for jar in damaged:
                on_progress(f"{self.directory / jar.filename} is damaged: downloading it again")
            wanted = [jar for jar in self.jars if jar not in present or jar in damaged]
            if wanted:
                self._fetch_all(wanted, on_progress)

    def _is_valid(self, jar: Jar, *, verify: bool) -> bool:
        path = self.directory / jar.filename
        stat = path.stat()
        if stat.st_size != jar.size:
            return False
        if not verify and stat.st_mtime == VERIFIED_MTIME:
            return True
        with path.open("rb") as file:
            valid = hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
        if valid:
            os.utime(path, (VERIFIED_MTIME, VERIFIED_MTIME))
        return valid

    def _fetch_all(self, wanted: list[Jar], on_progress: ProgressListener) -> None:
        megabytes = sum(jar.size for jar in wanted) / 1e6
        on_progress(f"downloading Apache Kafka, once: {len(wanted)} jars, {megabytes:.0f} MB")
        make_private_directory(self.directory)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.directory))
        try:
            for path in fetch_jars(sorted(wanted, key=lambda jar: -jar.size), partial):
                os.utime(path, (VERIFIED_MTIME, VERIFIED_MTIME))
                path.replace(self.directory / path.name)
        finally:
            shutil.rmtree(partial)
