"""Echoes with the asyncio server of websockets; prints the port.

usage: websockets_echo.py LOOP [--fanout] [--deflate] [--tls CERT KEY]

Without compression unless asked for, keepalive, size limit or pauses in
reading.
"""

from asyncio_peer import main
from websockets.asyncio.server import broadcast, serve
from websockets.extensions.permessage_deflate import (
    ServerPerMessageDeflateFactory,
)

CLIENTS = set()


async def echo(client):
    async for message in client:
        await client.send(message)


async def fanout(client):
    CLIENTS.add(client)
    try:
        async for message in client:
            broadcast(CLIENTS, message)
    finally:
        CLIENTS.discard(client)


async def begin(options, context):
    extensions = None
    if options.deflate:
        extensions = [
            ServerPerMessageDeflateFactory(
                server_max_window_bits=12,
                client_max_window_bits=12,
                compress_settings={'memLevel': 5},
            )
        ]
    server = await serve(
        fanout if options.fanout else echo,
        '127.0.0.1',
        0,
        ssl=context,
        backlog=4096,
        compression=None,
        extensions=extensions,
        ping_interval=None,
        max_size=None,
        max_queue=None,
    )
    return next(iter(server.sockets)).getsockname()[1]


main(begin)
