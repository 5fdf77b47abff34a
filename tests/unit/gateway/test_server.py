"""The socket that the gateway listens on."""

import asyncio
import socket

import pytest

from poise.errors import SetupError
from poise_services.gateway.server import _bound_socket
from poise_services.gateway.settings import GatewaySettings


async def test_answers_are_not_held_back() -> None:
    accepted = asyncio.Queue[asyncio.StreamWriter]()
    with _bound_socket(GatewaySettings(port=0)) as listener:
        server = await asyncio.start_server(lambda _reader, writer: accepted.put_nowait(writer), sock=listener)
        _, client = await asyncio.open_connection(*listener.getsockname())
        served = await accepted.get()
        assert served.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for writer in (client, served):
            writer.close()
        server.close()


def test_nobody_can_knock_before_it_serves() -> None:
    with _bound_socket(GatewaySettings(port=0)) as listener, socket.socket() as client:
        assert client.connect_ex(listener.getsockname()) != 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_takes_any_host(host: str) -> None:
    with _bound_socket(GatewaySettings(host=host, port=0)) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(SetupError, match="POISE_GATEWAY_HOST"), _bound_socket(GatewaySettings(host=host, port=0)):
        pass
