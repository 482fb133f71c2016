"""Echoes with the threading server of websockets; prints the port.

usage: websockets_sync_echo.py [--tls CERTFILE KEYFILE]
"""

import argparse

from asyncio_peer import tls_context
from websockets.sync.server import serve


def echo(client):
    for message in client:
        client.send(message)


parser = argparse.ArgumentParser()
parser.add_argument('--tls', nargs=2)
options = parser.parse_args()
with serve(
    echo,
    '127.0.0.1',
    0,
    ssl=tls_context(options.tls),
    compression=None,
    ping_interval=None,
    max_size=None,
) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
