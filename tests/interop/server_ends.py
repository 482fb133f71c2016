"""Servers of several implementations that behave alike.

Each echoes messages, except for texts that are commands:

    !close CODE REASON     close the connection
    !ping PAYLOAD          ping; after the pong, send `pong PAYLOAD`
    !fragments PART ...    send the parts as fragments of one text

Each speaks the subprotocol `superchat`, and refuses what wants the path
`/forbidden`.
"""

from __future__ import annotations

import contextlib
import http
import json
import queue
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import aiohttp.web
import websockets.asyncio.server
import websockets.sync.server
from interop.client_ends import Loop
from programs import SOON, Program
from websockets.exceptions import ConnectionClosed

import twspy

HERE = Path(__file__).resolve().parent
PROTOCOL = 'superchat'
FORBIDDEN = '/forbidden'


def parse(message: object) -> tuple[str, list[str]]:
    """Name and arguments of a command; '' for what is none."""
    if not isinstance(message, str) or not message.startswith('!'):
        return '', []
    name, *rest = message[1:].split(' ')
    return name, rest


class Server(ABC):
    """A running server; the constructor starts it."""

    #: Whether the implementation can send a message in fragments.
    fragments = True
    #: The status with which it refuses FORBIDDEN.
    refusal = 403
    port: int

    def __init__(self) -> None:
        self.closes: queue.Queue[tuple[int, str]] = queue.Queue()

    def closed(self) -> tuple[int, str]:
        """Code and reason with which the next client is gone."""
        return self.closes.get(timeout=SOON)

    @abstractmethod
    def end(self) -> None: ...


def obey(client: twspy.Connection, name: str, rest: list[str]) -> None:
    """Do what a client of twspy wants."""
    if name == 'close':
        client.close(int(rest[0]), ' '.join(rest[1:]))
    elif name == 'ping':
        client.send_ping(rest[0].encode())
    elif name == 'fragments':
        # Parts of one size, the last one perhaps shorter.
        client.send(''.join(rest), fragment_size=len(rest[0].encode()))


class TwspyServer(Server):
    refusal = 404

    class Server(twspy.Server):
        closes: queue.Queue[tuple[int, str]]

        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            name, rest = parse(message.payload)
            if name:
                obey(client, name, rest)
            else:
                client.send(message)

        def onpong(self, client: twspy.Connection, payload: bytes) -> None:
            client.send(f'pong {payload.decode()}')

        def onclose(
            self, client: twspy.Connection, message: twspy.CloseMessage
        ) -> None:
            self.closes.put((message.code, message.reason))

    def __init__(self) -> None:
        super().__init__()
        self.server = self.Server(
            ('127.0.0.1', 0), protocols=[PROTOCOL], locations=['/']
        )
        self.server.closes = self.closes
        self.server.start()
        self.port = self.server.address[1]

    def end(self) -> None:
        self.server.stop()


class TwspyAccept(Server):
    """A websocket that accepts, and a thread for each connection."""

    refusal = 404

    class Connection(twspy.Connection):
        closes: queue.Queue[tuple[int, str]]

        def onmessage(self, message: twspy.Message) -> None:
            name, rest = parse(message.payload)
            if name:
                obey(self, name, rest)
            else:
                self.send(message)

        def onpong(self, payload: bytes) -> None:
            self.send(f'pong {payload.decode()}')

        def onclose(self, message: twspy.CloseMessage) -> None:
            self.closes.put((message.code, message.reason))

    def __init__(self) -> None:
        super().__init__()
        self.listener = twspy.websocket(protocols=[PROTOCOL], locations=['/'])
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            connection = self.Connection(client)
            connection.closes = self.closes
            thread = threading.Thread(target=connection.receive_forever)
            thread.start()
            self.threads.append(thread)

    def end(self) -> None:
        self.listener.close()
        for thread in self.threads:
            thread.join(SOON)


class WebsocketsSync(Server):
    def __init__(self) -> None:
        super().__init__()
        self.server = websockets.sync.server.serve(
            self._handle,
            '127.0.0.1',
            0,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]
            select_subprotocol=self._select,
            process_request=self._process,
        )
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @staticmethod
    def _select(connection: Any, offered: Any) -> Any:
        return PROTOCOL if PROTOCOL in offered else None

    @staticmethod
    def _process(connection: Any, request: Any) -> Any:
        if request.path == FORBIDDEN:
            return connection.respond(http.HTTPStatus.FORBIDDEN, 'go away\n')
        return None

    def _handle(
        self, connection: websockets.sync.server.ServerConnection
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = connection.recv()
                name, rest = parse(message)
                if name == 'close':
                    connection.close(int(rest[0]), ' '.join(rest[1:]))
                elif name == 'ping':
                    assert connection.ping(rest[0]).wait(SOON)
                    connection.send(f'pong {rest[0]}')
                elif name == 'fragments':
                    connection.send(rest)
                else:
                    connection.send(message)
        code = connection.close_code
        assert code is not None
        self.closes.put((code, connection.close_reason or ''))

    def end(self) -> None:
        self.server.shutdown()
        self.thread.join(SOON)


class WebsocketsAsyncio(Server):
    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.loop.run(self._start())

    async def _start(self) -> None:
        self.server = await websockets.asyncio.server.serve(
            self._handle,
            '127.0.0.1',
            0,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]
            select_subprotocol=WebsocketsSync._select,
            process_request=WebsocketsSync._process,
        )
        (sock,) = self.server.sockets
        self.port = sock.getsockname()[1]

    async def _handle(
        self, connection: websockets.asyncio.server.ServerConnection
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await connection.recv()
                name, rest = parse(message)
                if name == 'close':
                    await connection.close(int(rest[0]), ' '.join(rest[1:]))
                elif name == 'ping':
                    await (await connection.ping(rest[0]))
                    await connection.send(f'pong {rest[0]}')
                elif name == 'fragments':
                    await connection.send(rest)
                else:
                    await connection.send(message)
        code = connection.close_code
        assert code is not None
        self.closes.put((code, connection.close_reason or ''))

    async def _stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()

    def end(self) -> None:
        self.loop.run(self._stop())
        self.loop.end()


class Aiohttp(Server):
    fragments = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.loop.run(self._start())

    async def _start(self) -> None:
        app = aiohttp.web.Application()
        app.router.add_get('/{path:.*}', self._handle)
        self.runner = aiohttp.web.AppRunner(app)
        await self.runner.setup()
        await aiohttp.web.TCPSite(self.runner, '127.0.0.1', 0).start()
        self.port = self.runner.addresses[0][1]

    async def _handle(
        self, request: aiohttp.web.Request
    ) -> aiohttp.web.StreamResponse:
        if request.path == FORBIDDEN:
            return aiohttp.web.Response(status=403, text='go away\n')
        # Without autoping it tells of pongs.
        ws = aiohttp.web.WebSocketResponse(
            protocols=[PROTOCOL], autoping=False
        )
        await ws.prepare(request)
        while True:
            message = await ws.receive()
            if message.type == aiohttp.WSMsgType.PING:
                await ws.pong(message.data)
            elif message.type == aiohttp.WSMsgType.PONG:
                await ws.send_str(f'pong {message.data.decode()}')
            elif message.type == aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
            elif message.type == aiohttp.WSMsgType.TEXT:
                await self._text(ws, message.data)
            elif message.type == aiohttp.WSMsgType.CLOSE:
                self.closes.put((message.data, message.extra or ''))
            else:
                return ws

    async def _text(
        self, ws: aiohttp.web.WebSocketResponse, text: str
    ) -> None:
        name, rest = parse(text)
        if name == 'close':
            message = ' '.join(rest[1:]).encode()
            await ws.close(code=int(rest[0]), message=message)
            self.closes.put((ws.close_code or 1005, ''))
        elif name == 'ping':
            await ws.ping(rest[0].encode())
        else:
            await ws.send_str(text)

    def end(self) -> None:
        self.loop.run(self.runner.cleanup())
        self.loop.end()


class NodeWs(Server):
    def __init__(self) -> None:
        super().__init__()
        self.program = Program('node', HERE / 'server.js')
        try:
            self.port = json.loads(self.program.next_line())['port']
        except BaseException:
            self.end()
            raise

    def closed(self) -> tuple[int, str]:
        close = json.loads(self.program.next_line())
        return close['code'], close['reason']

    def end(self) -> None:
        self.program.__exit__()


TWSPY: dict[str, type[Server]] = {
    'twspy_server': TwspyServer,
    'twspy_accept': TwspyAccept,
}
FOREIGN: dict[str, type[Server]] = {
    'websockets_sync': WebsocketsSync,
    'websockets_asyncio': WebsocketsAsyncio,
    'aiohttp': Aiohttp,
    'node_ws': NodeWs,
}
