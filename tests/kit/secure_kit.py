"""A broker that requires TLS or SASL, and its certificates."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization

from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka, KafkaNode
from poise.stack.kafka_runtime import KafkaRuntime, write_properties

HOST = probe.LOOPBACK
USER, PASSWORD = "alice", "open sesame"
KEY_PASSWORD = "wonderland"  # noqa: S105 - a test's password
CLUSTER = "bG9vcGJhY2tsb29wYmFjaw"


@dataclass(frozen=True)
class SecureBroker:
    """One broker with two listeners: `tls` requires a client certificate, `sasl` a password over TLS."""

    tls: str
    sasl: str
    ca: Path
    cert: Path
    key: Path
    """Encrypted with `KEY_PASSWORD`."""
    other_ca: Path
    """An authority that did not sign the broker's certificate."""
    misnamed: str
    """A listener whose certificate is for another host."""


def encrypted(cert: trustme.LeafCert, password: str | None) -> bytes:
    """Return a certificate's key in the format that Kafka requires, PKCS 8."""
    key = serialization.load_pem_private_key(cert.private_key_pem.bytes(), password=None)
    encryption: Any = (
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def chain(cert: trustme.LeafCert) -> bytes:
    """Return a certificate and its chain."""
    return b"".join(blob.bytes() for blob in cert.cert_chain_pems)


def with_user(directory: Path) -> None:
    """Format a node's storage with a SCRAM user in it, as an operator would."""
    runtime = KafkaRuntime.prepare(lambda _: None)
    directory.mkdir(parents=True)
    format_properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:1",
        "listeners": f"CONTROLLER://{HOST}:1,PLAINTEXT://{HOST}:2",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data",
    }
    write_properties(directory / "format.properties", format_properties)
    users = [f"{kind}=[name={USER},password={PASSWORD}]" for kind in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    added = [word for user in users for word in ("--add-scram", user)]
    command = runtime.command("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", "format.properties", *added)
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@asynccontextmanager
async def secure_broker(folder: Path) -> AsyncIterator[SecureBroker]:
    """Run a broker with every topic of the catalog."""
    directory = folder / "kafka"
    await asyncio.to_thread(with_user, directory)
    authority, other = trustme.CA(), trustme.CA()
    ports: list[int] = []
    for _ in range(5):
        ports.append(probe.free_port(*ports))
    port, controller, tls, sasl, misnamed = ports
    server, elsewhere, client = (
        authority.issue_cert(HOST),
        authority.issue_cert("elsewhere.example"),
        authority.issue_cert("client"),
    )
    for name, cert in (("server", server), ("elsewhere", elsewhere)):
        (directory / f"{name}.pem").write_bytes(encrypted(cert, None) + chain(cert))
    (directory / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "other-ca.pem").write_bytes(other.cert_pem.bytes())
    (folder / "client.pem").write_bytes(chain(client))
    (folder / "client.key").write_bytes(encrypted(client, KEY_PASSWORD))
    node = Kafka(
        directory,
        port=port,
        node=KafkaNode(controller_port=controller, cluster=CLUSTER),
        properties=_properties(port, controller, tls, sasl, misnamed),
    )
    async with node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield SecureBroker(
            f"{HOST}:{tls}",
            f"{HOST}:{sasl}",
            directory / "ca.pem",
            folder / "client.pem",
            folder / "client.key",
            folder / "other-ca.pem",
            f"{HOST}:{misnamed}",
        )


def _properties(port: int, controller: int, tls: int, sasl: int, misnamed: int) -> Mapping[str, str]:
    ports = {"PLAINTEXT": port, "TLS": tls, "SASL": sasl, "MISNAMED": misnamed}
    listeners = ",".join(f"{name}://{HOST}:{number}" for name, number in ports.items())
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,MISNAMED:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "server.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "ca.pem",
        "listener.name.tls.ssl.client.auth": "required",
        "listener.name.misnamed.ssl.keystore.type": "PEM",
        "listener.name.misnamed.ssl.keystore.location": "elsewhere.pem",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": f'{plain} user_{USER}="{PASSWORD}";',
    }
    for kind in ("256", "512"):
        properties[f"listener.name.sasl.scram-sha-{kind}.sasl.jaas.config"] = scram
    return properties
