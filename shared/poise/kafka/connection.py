"""Connection: where the brokers are and how they are spoken to; one value for everything that connects to Kafka."""

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
from poise.text.error_text import words_of

PROBE_TIMEOUT: Final = 5.0
"""Seconds that a broker is given to say why it does not take us."""
NO_BROKER: Final = "start one with `poise up`, or name yours with --broker or POISE_BROKER"

BrokerAddresses = dict[int, tuple[str, int]]
"""Host and port of each, by its id."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What every client of Kafka in a process is made with; `Connection.of(settings)`."""

    bootstrap: tuple[str, ...]
    """`host:port` of some brokers."""
    client_id: str = "poise"
    security: Security = field(default_factory=Security)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    """Made once, of the files that `security` names; None = no TLS."""

    @classmethod
    def of(cls, settings: MeshSettings) -> Self:
        """The connection that the settings describe.

        Raises:
            SetupError: A file of certificates or keys cannot be used; the message names it.
        """
        if settings.security.sasl:
            logging.getLogger("aiokafka.conn").addFilter(_reveals_no_secret)
        return cls(tuple(settings.bootstrap), settings.instance, settings.security, _ssl_context(settings.security))

    def client_options(self) -> dict[str, Any]:
        """The arguments of each of aiokafka's clients."""
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
        """The same in FastStream's words; None = neither TLS nor SASL."""
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
        """Ask each broker once more, and say why none takes us: aiokafka only logs it."""
        found: list[str] = []
        brokers: BrokerAddresses = {}
        for host, port, _ in collect_hosts(list(self.bootstrap)):
            try:
                brokers |= await self._fetch_brokers(host, port)
            except (OSError, KafkaError) as error:
                found.append(failure_reason(error, self.security))
        if unreachable := await self.unreachable_brokers(brokers):
            return SetupError(f"Kafka answers at {','.join(self.bootstrap)}, but {unreachable[0]}")
        told = [why for why in found if why != NO_BROKER] or [NO_BROKER]  # one that is there and refuses says more
        return SetupError(f"no Kafka broker answers at {','.join(self.bootstrap)}: {told[0]}")

    async def unreachable_brokers(self, brokers: BrokerAddresses) -> list[str]:
        """Which brokers cannot be reached under the addresses that they tell their clients, and what to do about each.

        Args:
            brokers: Their addresses by id, as one of them told them.
        """
        said = await asyncio.gather(*(self._probe(broker, *address) for broker, address in brokers.items()))
        return [why for why in said if why]

    async def _probe(self, broker: int, host: str, port: int) -> str | None:
        try:
            await self._fetch_brokers(host, port)
        except (OSError, KafkaError) as error:
            why = failure_reason(error, self.security)
            if why == NO_BROKER:
                why = (
                    f"nothing answers from here ({words_of(error, 'timed out')}): correct advertised.listeners of that "
                    "broker, or the name or route to it, or start it"
                )
            return f"broker {broker} tells its clients to come to {host}:{port}, and there {why}"
        return None

    async def _fetch_brokers(self, host: str, port: int) -> BrokerAddresses:
        """The brokers of the cluster, as one of them names them."""
        arguments = self.client_options()
        del arguments["bootstrap_servers"]
        async with asyncio.timeout(PROBE_TIMEOUT):
            connection = await create_conn(host, port, **arguments)
            try:
                answer: Any = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
        return {item["node_id"]: (item["host"], item["port"]) for item in answer.to_object()["brokers"]}


def failure_reason(error: OSError | KafkaError, security: Security) -> str:
    """Why a broker does not take us, and what to do, from what its connection ended with."""
    own = f"POISE_SECURITY__PROTOCOL is {security.protocol}"
    match error:
        case ssl.SSLCertVerificationError():
            why = (
                f"its certificate is not accepted ({error.verify_message}): POISE_SECURITY__CA_FILE must name its "
                "authority, and POISE_BROKER a host that it was issued for"
            )
        case ssl.SSLError():
            why = f"no TLS connection comes about ({error.reason or error}): {own}, does the broker's port speak TLS?"
        case AuthenticationFailedError() | SaslAuthenticationFailed():
            why = (
                f"it refuses {security.mechanism} user {security.username!r}: correct POISE_SECURITY__USERNAME and "
                "POISE_SECURITY__PASSWORD"
            )
        case UnsupportedSaslMechanismError():
            why = f"it does not know {security.mechanism}: correct POISE_SECURITY__MECHANISM"
        case IllegalSaslStateError():
            why = f"it asks for no password: {own}, correct that"
        case KafkaConnectionError() | ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            tls = "speak TLS, and demand a certificate of yours (POISE_SECURITY__CERT_FILE) or a password"
            demand = tls if security.tls else "demand TLS or a password"
            why = f"it closes the connection: {own}, does the broker {demand}?"
        case _:
            why = NO_BROKER
    return why


def _reveals_no_secret(record: logging.LogRecord) -> bool:
    """Whether a line of the log may be written: at DEBUG, aiokafka prints requests whole, PLAIN's password in one."""
    return record.levelno > logging.DEBUG or "SaslAuthenticate" not in record.getMessage()


def _ssl_context(security: Security) -> ssl.SSLContext | None:
    if not security.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except (ssl.SSLError, OSError) as error:
        raise SetupError(
            f"{security.ca_file} holds no certificates in PEM ({words_of(error)}): correct ca_file"
        ) from error
    context.check_hostname = security.check_hostname
    if security.cert_file is not None:
        password = security.key_password.get_secret_value() if security.key_password else ""
        try:  # never without a password: OpenSSL would ask the terminal for it, and wait
            context.load_cert_chain(security.cert_file, security.key_file, password)
        except (ssl.SSLError, OSError) as error:
            raise SetupError(
                f"{security.cert_file} and {security.key_file or 'the key in it'} cannot be used "
                f"({getattr(error, 'reason', None) or words_of(error)}): both must be PEM, belong together, and "
                "key_password must open the key"
            ) from error
    return context
