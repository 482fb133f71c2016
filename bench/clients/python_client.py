"""Round trips of a blocking client: sends, waits for the echo, sends again.

Prints one line of JSON. Every echo is compared.

usage: python_client.py NAME PORT SIZE SECONDS [CERTFILE]

NAME is one of twspy, twspy-connect, websockets, websocket-client, picows.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable

WARM_UP = 0.2  # seconds that do not count
AT_ONCE = 10  # round trips between looks at the clock, of small messages


def repeat(trip: Callable[[], object], seconds: float, payload: bytes) -> None:
    """Make round trips for so long; prints how many a second."""
    batch = AT_ONCE if len(payload) < 50_000 else 1
    for span in (WARM_UP, seconds):
        count = 0
        start = now = time.perf_counter()
        cpu = time.process_time()
        while now < start + span:
            for _ in range(batch):
                if trip() != payload:
                    sys.exit('the echo differs')
            count += batch
            now = time.perf_counter()
    print(
        json.dumps(
            {
                'messages': count,
                'seconds': now - start,
                'rate': count / (now - start),
                'load_cpu': time.process_time() - cpu,
            }
        )
    )


def context_of(certfile: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=certfile) if certfile else None


def run_twspy(
    url: str, payload: bytes, seconds: float, certfile: str | None
) -> None:
    """The blocking socket: frames, as they come."""
    import twspy

    host, _, port = url.split('/')[2].partition(':')
    sock = twspy.websocket(max_size=None)
    if certfile:
        sock.enable_ssl(cafile=certfile, server_hostname='localhost')
    sock.connect((host, int(port)))
    frame = twspy.Frame(twspy.OPCODE_BINARY, payload)

    def trip() -> object:
        sock.send(frame)
        return sock.recv().payload

    repeat(trip, seconds, payload)
    sock.close()


def run_twspy_connect(
    url: str, payload: bytes, seconds: float, certfile: str | None
) -> None:
    """connect(): messages, with keepalive."""
    import twspy

    ssl_args = {'cafile': certfile} if certfile else None
    with twspy.connect(url, ssl_args=ssl_args, max_size=None) as conn:

        def trip() -> object:
            conn.send(payload)
            return conn.recv().payload

        repeat(trip, seconds, payload)


def run_websockets(
    url: str, payload: bytes, seconds: float, certfile: str | None
) -> None:
    from websockets.sync.client import connect

    with connect(
        url,
        ssl=context_of(certfile),
        compression=None,
        max_size=None,
        ping_interval=None,
    ) as sock:

        def trip() -> object:
            sock.send(payload)
            return sock.recv()

        repeat(trip, seconds, payload)


def run_websocket_client(
    url: str, payload: bytes, seconds: float, certfile: str | None
) -> None:
    import websocket

    options = {'ca_certs': certfile} if certfile else {}
    sock = websocket.create_connection(url, sslopt=options)

    def trip() -> object:
        sock.send_binary(payload)
        return sock.recv()

    repeat(trip, seconds, payload)
    sock.close()


def run_picows(
    url: str, payload: bytes, seconds: float, certfile: str | None
) -> None:
    """It has callbacks in place of recv(): each echo is answered by the next
    message."""
    import picows
    import uvloop

    class Client(picows.WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport):  # type: ignore[no-untyped-def]
            self.done = asyncio.get_running_loop().create_future()
            self.span, self.count = WARM_UP, 0
            self.start = time.perf_counter()
            transport.send(picows.WSMsgType.BINARY, payload)

        def on_ws_frame(self, transport, frame):  # type: ignore[no-untyped-def]
            if frame.get_payload_as_bytes() != payload:
                sys.exit('the echo differs')
            self.count += 1
            now = time.perf_counter()
            if now >= self.start + self.span:
                if self.span == seconds:
                    self.finish(now - self.start)
                    transport.disconnect()
                    return
                self.span, self.count, self.start = seconds, 0, now
                self.cpu = time.process_time()
            transport.send(picows.WSMsgType.BINARY, payload)

        def finish(self, passed: float) -> None:
            print(
                json.dumps(
                    {
                        'messages': self.count,
                        'seconds': passed,
                        'rate': self.count / passed,
                        'load_cpu': time.process_time() - self.cpu,
                    }
                )
            )
            self.done.set_result(None)

    async def main() -> None:
        _, client = await picows.ws_connect(
            Client,
            url,
            ssl_context=context_of(certfile),
            max_frame_size=2**30,
        )
        await client.done

    uvloop.run(main())


RUN = {
    'twspy': run_twspy,
    'twspy-connect': run_twspy_connect,
    'websockets': run_websockets,
    'websocket-client': run_websocket_client,
    'picows': run_picows,
}


def main() -> None:
    name, port, size, seconds, *certfile = sys.argv[1:]
    payload = bytes(range(256)) * (int(size) // 256 + 1)
    RUN[name](
        f'wss://localhost:{port}/' if certfile else f'ws://127.0.0.1:{port}/',
        payload[: int(size)],
        float(seconds),
        certfile[0] if certfile else None,
    )


if __name__ == '__main__':
    main()
