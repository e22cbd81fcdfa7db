"""The listening socket of the service."""

import asyncio
import socket

import pytest

from calotype.api.server import bind
from calotype.api.settings import ServiceSettings
from calotype.errors import CalotypeError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_are_sent_without_delay(host):
    """asyncio sets TCP_NODELAY only on the connections of sockets that name TCP; others wait for acknowledgements."""
    try:
        listener = bind(ServiceSettings(host=host, port=0))
    except CalotypeError:
        pytest.skip("this computer has no such address")

    async def is_without_delay() -> bool:
        connected = asyncio.get_running_loop().create_future()
        delay = (socket.IPPROTO_TCP, socket.TCP_NODELAY)

        def connection_made(reader, writer):
            connected.set_result(writer.get_extra_info("socket").getsockopt(*delay))
            writer.close()

        server = await asyncio.start_server(connection_made, sock=listener)
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        writer.close()
        async with server:
            return bool(await connected)

    assert asyncio.run(is_without_delay())
