"""Echoes as an ASGI application, under uvicorn or granian; prints the port.

usage: asgi_echo.py (uvicorn|granian)
"""

import socket
import sys


async def application(scope, receive, send):
    if scope['type'] != 'websocket':
        return
    while True:
        event = await receive()
        if event['type'] == 'websocket.connect':
            await send({'type': 'websocket.accept'})
        elif event['type'] == 'websocket.receive':
            del event['type']
            await send({'type': 'websocket.send'} | event)
        else:
            return


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


def run_uvicorn() -> None:
    import uvicorn

    config = uvicorn.Config(
        application,
        loop='uvloop',
        ws='websockets-sansio',
        ws_max_size=2**31,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan='off',
        log_level='error',
    )
    listener = socket.create_server(('127.0.0.1', 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listener])


def run_granian() -> None:
    from granian import Granian

    # It takes no socket; the runner tries until the port answers.
    port = free_port()
    print(port, flush=True)
    Granian(
        'asgi_echo:application',
        address='127.0.0.1',
        port=port,
        interface='asginl',
        loop='uvloop',
        log_enabled=False,
        backlog=4096,
    ).serve()


if __name__ == '__main__':
    {'uvicorn': run_uvicorn, 'granian': run_granian}[sys.argv[1]]()
