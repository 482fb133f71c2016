"""Echoes with aiohttp, compressed if the client wants it; prints the port.

The client's offer says which window; level 1 and mem_level 8 are aiohttp's.

usage: aiohttp_deflate.py none|any
"""

import asyncio
import signal
import sys

from aiohttp import web

COMPRESS = sys.argv[1] != 'none'


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=COMPRESS)
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def main() -> None:
    application = web.Application()
    application.router.add_get('/', echo)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == '__main__':
    asyncio.run(main())
