"""Echoes with websockets on asyncio; prints the port.

Set up as fast as it goes: no compression, no keepalive, no limit of size, and
a queue of received messages that never stops the reading.
"""

import asyncio
import logging
import signal

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    logging.getLogger('websockets').setLevel(logging.ERROR)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(
        echo,
        '127.0.0.1',
        0,
        compression=None,
        ping_interval=None,
        max_size=None,
        max_queue=None,
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await stop.wait()


if __name__ == '__main__':
    asyncio.run(main())
