"""What the peers on asyncio share: options, the loop, TLS, the port.

With --spin a thread computes in Python all the time.
"""

import argparse
import asyncio
import resource
import ssl
import threading
from collections.abc import Awaitable, Callable

Serve = Callable[[argparse.Namespace, ssl.SSLContext | None], Awaitable[int]]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument('loop', choices=['asyncio', 'uvloop'])
    parser.add_argument('--fanout', action='store_true')
    parser.add_argument('--deflate', action='store_true')
    parser.add_argument('--spin', action='store_true')
    parser.add_argument('--tls', nargs=2, metavar=('CERTFILE', 'KEYFILE'))
    return parser.parse_args()


def tls_context(files: list[str] | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def spin() -> None:
    number = 0
    while True:
        number = (number * 3 + 1) % 1_000_003


def main(serve: Serve) -> None:
    """Runs `serve`, which begins to listen and returns its port, for ever."""
    options = parse()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run() -> None:
        port = await serve(options, tls_context(options.tls))
        if options.spin:
            threading.Thread(target=spin, daemon=True).start()
        print(port, flush=True)
        await asyncio.get_running_loop().create_future()

    if options.loop == 'uvloop':
        import uvloop

        uvloop.run(run())
    else:
        asyncio.run(run())
