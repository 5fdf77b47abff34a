"""How to connect to Kafka: addresses, TLS and credentials, one value for all clients of a process."""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from poise.errors import SetupError
from poise.security import Security
from poise.settings import MeshSettings
from poise.text.error_text import error_message

PROBE_TIMEOUT: Final = 5.0
"""Seconds that a broker has to answer when the reason of a refused connection is looked for."""
NO_BROKER: Final = "start one with `poise up`, or set the address with --broker or POISE_BROKER"

BrokerAddresses = dict[int, tuple[str, int]]
"""Host and port by broker id."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The options of every Kafka client in a process; `Connection.of(settings)`."""

    bootstrap: tuple[str, ...]
    """`host:port` of some brokers."""
    client_id: str = "poise"
    security: Security = field(default_factory=Security)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    """Built once from the files that `security` names; None = no TLS."""

    @classmethod
    def of(cls, settings: MeshSettings) -> Self:
        """Return the connection that the settings describe.

        Raises:
            SetupError: A certificate or key file cannot be used; the message names it.
        """
        if settings.security.sasl:
            logging.getLogger("aiokafka.conn").addFilter(_reveals_no_secret)
        return cls(tuple(settings.bootstrap), settings.instance, settings.security, _ssl_context(settings.security))

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments for aiokafka's clients."""
        found: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "client_id": self.client_id,
            **self._encryption(),
        }
        if self.security.sasl:
            found["sasl_mechanism"] = self.security.mechanism
            found["sasl_plain_username"], found["sasl_plain_password"] = self._credentials()
        return found

    def faststream_security(self) -> BaseSecurity | None:
        """Return the same security settings as FastStream's type; None = neither TLS nor SASL."""
        if not self.security.sasl:
            return BaseSecurity(ssl_context=self.ssl_context) if self.ssl_context else None
        kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
        return kinds[self.security.mechanism or "PLAIN"](*self._credentials(), ssl_context=self.ssl_context)

    def _encryption(self) -> dict[str, Any]:
        return {"security_protocol": self.security.protocol, "ssl_context": self.ssl_context}

    def _credentials(self) -> tuple[str, str]:
        password = self.security.password
        return self.security.username or "", password.get_secret_value() if password else ""

    async def connect_error(self) -> SetupError:
        """Return an error that says why no broker accepts a connection, which aiokafka only logs."""
        found: list[str] = []
        brokers: BrokerAddresses = {}
        for host, port, _ in collect_hosts(list(self.bootstrap)):
            try:
                brokers |= await self._fetch_brokers(host, port)
            except (OSError, KafkaError) as error:
                found.append(failure_reason(error, self.security))
        if unreachable := await self.unreachable_brokers(brokers):
            return SetupError(f"Kafka answers at {','.join(self.bootstrap)}, but {unreachable[0]}")
        reasons = [why for why in found if why != NO_BROKER] or [NO_BROKER]  # a broker that refuses says more
        return SetupError(f"no Kafka broker answers at {','.join(self.bootstrap)}: {reasons[0]}")

    async def unreachable_brokers(self, brokers: BrokerAddresses) -> list[str]:
        """Return a message for each broker that cannot be reached at its advertised address, with what to correct.

        Args:
            brokers: The advertised addresses by broker id.
        """
        found = await asyncio.gather(*(self._probe(broker, *address) for broker, address in brokers.items()))
        return [why for why in found if why]

    async def _probe(self, broker: int, host: str, port: int) -> str | None:
        try:
            await self._fetch_brokers(host, port)
        except (OSError, KafkaError) as error:
            why = failure_reason(error, self.security)
            if why == NO_BROKER:
                why = (
                    f"nothing answers from here ({error_message(error, 'timed out')}): correct its "
                    "advertised.listeners, or the name or route to it, or start it"
                )
            return f"broker {broker} advertises the address {host}:{port}, where {why}"
        return None

    async def _fetch_brokers(self, host: str, port: int) -> BrokerAddresses:
        """Return the addresses that a broker advertises for the whole cluster."""
        options = self.client_options()
        del options["bootstrap_servers"]
        async with asyncio.timeout(PROBE_TIMEOUT):
            connection = await create_conn(host, port, **options)
            try:
                answer: Any = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
        return {item["node_id"]: (item["host"], item["port"]) for item in answer.to_object()["brokers"]}


def failure_reason(error: OSError | KafkaError, security: Security) -> str:
    """Return why a broker refused a connection, and what to correct."""
    protocol = f"POISE_SECURITY__PROTOCOL is {security.protocol}"
    match error:
        case ssl.SSLCertVerificationError():
            why = (
                f"its certificate is not accepted ({error.verify_message}): POISE_SECURITY__CA_FILE must name its "
                "authority, and POISE_BROKER a host for which it was issued"
            )
        case ssl.SSLError():
            why = f"the TLS handshake fails ({error.reason or error}): {protocol}, does the broker's port speak TLS?"
        case AuthenticationFailedError() | SaslAuthenticationFailed():
            why = (
                f"it refuses {security.mechanism} user {security.username!r}: correct POISE_SECURITY__USERNAME and "
                "POISE_SECURITY__PASSWORD"
            )
        case UnsupportedSaslMechanismError():
            why = f"it does not support {security.mechanism}: correct POISE_SECURITY__MECHANISM"
        case IllegalSaslStateError():
            why = f"it does not ask for a password: {protocol}, correct that"
        case KafkaConnectionError() | ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            tls = "speak TLS, and require a client certificate (POISE_SECURITY__CERT_FILE) or a password"
            requirement = tls if security.tls else "require TLS or a password"
            why = f"it closes the connection: {protocol}, does the broker {requirement}?"
        case _:
            why = NO_BROKER
    return why


def _reveals_no_secret(record: logging.LogRecord) -> bool:
    """Return whether a log record may be written: at DEBUG, aiokafka logs whole requests, the password of PLAIN too."""
    return record.levelno > logging.DEBUG or "SaslAuthenticate" not in record.getMessage()


def _ssl_context(security: Security) -> ssl.SSLContext | None:
    if not security.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except (ssl.SSLError, OSError) as error:
        raise SetupError(
            f"{security.ca_file} holds no certificates in PEM ({error_message(error)}): correct ca_file"
        ) from error
    context.check_hostname = security.check_hostname
    if security.cert_file is not None:
        password = security.key_password.get_secret_value() if security.key_password else ""
        try:  # always with a password: without one, OpenSSL prompts on the terminal and blocks
            context.load_cert_chain(security.cert_file, security.key_file, password)
        except (ssl.SSLError, OSError) as error:
            raise SetupError(
                f"{security.cert_file} and {security.key_file or 'the key in it'} cannot be used "
                f"({getattr(error, 'reason', None) or error_message(error)}): both must be PEM, belong together, and "
                "key_password must open the key"
            ) from error
    return context
