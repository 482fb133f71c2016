"""Echoes with picows; prints the port.

usage: picows_echo.py LOOP [--fanout] [--tls CERTFILE KEYFILE]

LOOP is asyncio or uvloop. A text is decoded and encoded again, as picows
itself does not look whether it is UTF-8.
"""

import picows
from asyncio_peer import main

CLIENTS: set[picows.WSTransport] = set()


class Echo(picows.WSListener):
    """Answers each message with the same."""

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind == picows.WSMsgType.TEXT:
            text = frame.get_payload_as_utf8_text()
            self.answer(transport, kind, text.encode())
        elif kind == picows.WSMsgType.BINARY:
            self.answer(transport, kind, frame.get_payload_as_bytes())

    def answer(self, transport, kind, payload):
        transport.send(kind, payload)


class Fanout(Echo):
    """Sends each message to all."""

    def on_ws_connected(self, transport):
        CLIENTS.add(transport)

    def on_ws_disconnected(self, transport):
        CLIENTS.discard(transport)

    def answer(self, transport, kind, payload):
        for client in CLIENTS:
            client.send(kind, payload)


async def serve(options, context):
    listener = Fanout if options.fanout else Echo
    server = await picows.ws_create_server(
        lambda request: listener(),
        '127.0.0.1',
        0,
        ssl=context,
        backlog=4096,
        enable_auto_ping=False,
        max_frame_size=2**31 - 1,
    )
    return server.sockets[0].getsockname()[1]


main(serve)
