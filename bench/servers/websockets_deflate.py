"""Echoes with websockets on asyncio, compressed; prints the port.

usage: websockets_deflate.py none|WINDOW_BITS MEM_LEVEL LEVEL
"""

import asyncio
import logging
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import (
    ServerPerMessageDeflateFactory,
)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    logging.getLogger('websockets').setLevel(logging.CRITICAL)
    kind, *numbers = sys.argv[1:]
    extensions = None
    if kind != 'none':
        mem_level, level = map(int, numbers)
        extensions = [
            ServerPerMessageDeflateFactory(
                server_max_window_bits=int(kind),
                client_max_window_bits=int(kind),
                compress_settings={'memLevel': mem_level, 'level': level},
            )
        ]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(
        echo,
        '127.0.0.1',
        0,
        compression=None,
        extensions=extensions,
        ping_interval=None,
        max_queue=None,
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await stop.wait()


if __name__ == '__main__':
    asyncio.run(main())
