"""Echoes with aiohttp; prints the port.

usage: aiohttp_echo.py LOOP [--fanout] [--deflate] [--tls CERT KEY]
"""

from aiohttp import WSMsgType, web
from asyncio_peer import main

CLIENTS = set()


async def begin(options, context):
    async def handler(request):
        client = web.WebSocketResponse(
            compress=options.deflate, max_msg_size=0, autoping=True
        )
        await client.prepare(request)
        CLIENTS.add(client)
        try:
            async for message in client:
                for to in CLIENTS if options.fanout else (client,):
                    if message.type == WSMsgType.TEXT:
                        await to.send_str(message.data)
                    else:
                        await to.send_bytes(message.data)
        finally:
            CLIENTS.discard(client)
        return client

    app = web.Application()
    app.router.add_get('/{any:.*}', handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(
        runner, '127.0.0.1', 0, ssl_context=context, backlog=4096
    )
    await site.start()
    return runner.addresses[0][1]


main(begin)
