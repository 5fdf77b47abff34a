"""The socket that the gateway listens on."""

import asyncio
import socket

import pytest

from poise.errors import SetupError
from poise_services.gateway.server import _bound_socket
from poise_services.gateway.settings import GatewaySettings


async def test_nagles_algorithm_is_off() -> None:
    accepted = asyncio.Queue[asyncio.StreamWriter]()
    with _bound_socket(GatewaySettings(port=0)) as listener:
        server = await asyncio.start_server(lambda _reader, writer: accepted.put_nowait(writer), sock=listener)
        _, client = await asyncio.open_connection(*listener.getsockname())
        served = await accepted.get()
        assert served.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for writer in (client, served):
            writer.close()
        server.close()


def test_the_socket_does_not_listen_before_the_server_starts() -> None:
    with _bound_socket(GatewaySettings(port=0)) as listener, socket.socket() as client:
        assert client.connect_ex(listener.getsockname()) != 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_host_can_be_bound(host: str) -> None:
    with _bound_socket(GatewaySettings(host=host, port=0)) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_a_foreign_address_cannot_be_bound(host: str) -> None:
    with pytest.raises(SetupError, match="POISE_GATEWAY_HOST"), _bound_socket(GatewaySettings(host=host, port=0)):
        pass
