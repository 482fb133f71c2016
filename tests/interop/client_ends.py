"""Clients of several implementations behind one blocking interface."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import websockets.asyncio.client
import websockets.sync.client
from programs import SOON, Program
from websockets.exceptions import ConnectionClosed, InvalidStatus

import twspy

HERE = Path(__file__).resolve().parent
T = TypeVar('T')


class Refused(Exception):
    """The server answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Closed(Exception):
    """The server has closed the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Client(ABC):
    """One connection; the constructor opens it, or raises Refused."""

    #: Whether the implementation can send a message in fragments.
    fragments = True
    #: Whether it answers a Close frame with the code of that frame.
    echoes_code = True
    #: Whether it goes on where the server speaks none of its protocols.
    needs_protocol = False
    protocol: str | None

    @abstractmethod
    def send(self, message: str | bytes) -> None: ...

    @abstractmethod
    def send_fragments(self, parts: Sequence[str]) -> None: ...

    @abstractmethod
    def recv(self) -> str | bytes:
        """The next message; Closed where there is none any more."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a ping and wait for its pong."""

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Do the closing handshake."""

    @abstractmethod
    def end(self) -> None:
        """Leave nothing behind, in whatever state the connection is."""


class Twspy(Client):
    class Connection(twspy.Connection):
        def __init__(self, sock: twspy.websocket) -> None:
            super().__init__(sock)
            self.pongs: list[bytes] = []

        def onpong(self, payload: bytes) -> None:
            self.pongs.append(payload)

    def __init__(self, url: str, protocols: Sequence[str] = ()) -> None:
        try:
            self.connection = twspy.connect(
                url, protocols=protocols, connection_class=self.Connection
            )
        except twspy.HandshakeError as error:
            assert error.status is not None
            raise Refused(error.status) from error
        self.protocol = self.connection.sock.protocol

    def send(self, message: str | bytes) -> None:
        self.connection.send(message)

    def send_fragments(self, parts: Sequence[str]) -> None:
        size = max(len(part.encode()) for part in parts)
        self.connection.send(''.join(parts), fragment_size=size)

    def recv(self) -> str | bytes:
        try:
            return self.connection.recv(timeout=SOON).payload
        except twspy.SocketClosed as error:
            raise Closed(error.code, error.reason) from error

    def ping(self, payload: bytes) -> None:
        # recv() takes notice of the pong, which comes before the echo.
        self.connection.send_ping(payload)
        self.send('after the ping')
        assert self.recv() == 'after the ping'
        assert self.connection.pongs == [payload]

    def close(self, code: int, reason: str) -> None:
        self.connection.close(code, reason, timeout=SOON)

    def end(self) -> None:
        self.connection.close()


class WebsocketsSync(Client):
    def __init__(self, url: str, protocols: Sequence[str] = ()) -> None:
        self.stack = ExitStack()
        try:
            self.connection = self.stack.enter_context(
                websockets.sync.client.connect(
                    url,
                    subprotocols=list(protocols) or None,  # type: ignore[arg-type]
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            raise Refused(error.response.status_code) from error
        self.protocol = self.connection.subprotocol

    def send(self, message: str | bytes) -> None:
        self.connection.send(message)

    def send_fragments(self, parts: Sequence[str]) -> None:
        self.connection.send(parts)

    def recv(self) -> str | bytes:
        try:
            return self.connection.recv(timeout=SOON)
        except ConnectionClosed as error:
            assert error.rcvd is not None
            raise Closed(error.rcvd.code, error.rcvd.reason) from error

    def ping(self, payload: bytes) -> None:
        assert self.connection.ping(payload).wait(SOON)

    def close(self, code: int, reason: str) -> None:
        self.connection.close(code, reason)
        assert self.connection.close_code == code

    def end(self) -> None:
        self.stack.close()


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SOON)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SOON)
        self._loop.close()


class WebsocketsAsyncio(Client):
    def __init__(self, url: str, protocols: Sequence[str] = ()) -> None:
        self.loop = Loop()
        try:
            self.connection = self.loop.run(self._connect(url, protocols))
        except InvalidStatus as error:
            self.loop.end()
            raise Refused(error.response.status_code) from error
        self.protocol = self.connection.subprotocol

    async def _connect(
        self, url: str, protocols: Sequence[str]
    ) -> websockets.asyncio.client.ClientConnection:
        return await websockets.asyncio.client.connect(
            url,
            subprotocols=list(protocols) or None,  # type: ignore[arg-type]
            proxy=None,
        )

    def send(self, message: str | bytes) -> None:
        self.loop.run(self.connection.send(message))

    def send_fragments(self, parts: Sequence[str]) -> None:
        self.loop.run(self.connection.send(parts))

    def recv(self) -> str | bytes:
        try:
            return self.loop.run(self.connection.recv())
        except ConnectionClosed as error:
            assert error.rcvd is not None
            raise Closed(error.rcvd.code, error.rcvd.reason) from error

    def ping(self, payload: bytes) -> None:
        async def ping() -> None:
            await (await self.connection.ping(payload))

        self.loop.run(ping())

    def close(self, code: int, reason: str) -> None:
        self.loop.run(self.connection.close(code, reason))
        assert self.connection.close_code == code

    def end(self) -> None:
        self.loop.run(self.connection.close())
        self.loop.end()


class Aiohttp(Client):
    fragments = False
    echoes_code = False

    def __init__(self, url: str, protocols: Sequence[str] = ()) -> None:
        self.loop = Loop()
        try:
            self.loop.run(self._connect(url, protocols))
        except aiohttp.WSServerHandshakeError as error:
            self.loop.run(self.session.close())
            self.loop.end()
            raise Refused(error.status) from error
        self.protocol = self.connection.protocol

    async def _connect(self, url: str, protocols: Sequence[str]) -> None:
        self.session = aiohttp.ClientSession()
        # Else it would not tell of pongs.
        self.connection = await self.session.ws_connect(
            url, protocols=protocols, autoping=False, compress=15
        )

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.loop.run(self.connection.send_str(message))
        else:
            self.loop.run(self.connection.send_bytes(message))

    def send_fragments(self, parts: Sequence[str]) -> None:
        raise NotImplementedError

    def recv(self) -> str | bytes:
        while True:
            message = self.loop.run(self.connection.receive())
            if message.type == aiohttp.WSMsgType.PING:
                self.loop.run(self.connection.pong(message.data))
                continue
            if message.type == aiohttp.WSMsgType.CLOSE:
                raise Closed(message.data, message.extra or '')
            assert message.type in (
                aiohttp.WSMsgType.TEXT,
                aiohttp.WSMsgType.BINARY,
            ), message
            data: str | bytes = message.data
            return data

    def ping(self, payload: bytes) -> None:
        self.loop.run(self.connection.ping(payload))
        message = self.loop.run(self.connection.receive())
        assert message.type == aiohttp.WSMsgType.PONG
        assert message.data == payload

    def close(self, code: int, reason: str) -> None:
        self.loop.run(
            self.connection.close(code=code, message=reason.encode())
        )
        assert self.connection.close_code == code

    def end(self) -> None:
        self.loop.run(self.connection.close())
        self.loop.run(self.session.close())
        self.loop.end()


class NodeWs(Client):
    needs_protocol = True

    def __init__(self, url: str, protocols: Sequence[str] = ()) -> None:
        self.program = Program('node', HERE / 'client.js')
        try:
            self._tell(do='connect', url=url, protocols=list(protocols))
            event = self._hear('open', 'refused', 'error')
            if event['event'] == 'refused':
                raise Refused(event['status'])
            if event['event'] == 'error':
                raise ConnectionError(event['text'])
        except BaseException:
            self.end()
            raise
        self.protocol = event['protocol'] or None

    def _tell(self, **command: Any) -> None:
        self.program.type(json.dumps(command))

    def _hear(self, *expected: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.program.next_line())
        assert event['event'] in expected, event
        return event

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._tell(do='send', text=message)
        else:
            data = base64.b64encode(message).decode()
            self._tell(do='send', binary=data)

    def send_fragments(self, parts: Sequence[str]) -> None:
        self._tell(do='fragments', parts=list(parts))

    def recv(self) -> str | bytes:
        event = self._hear('message', 'close')
        if event['event'] == 'close':
            raise Closed(event['code'], event['reason'])
        if 'binary' in event:
            return base64.b64decode(event['binary'])
        text: str = event['text']
        return text

    def ping(self, payload: bytes) -> None:
        self._tell(do='ping', payload=payload.decode())
        assert self._hear('pong')['payload'] == payload.decode()

    def close(self, code: int, reason: str) -> None:
        self._tell(do='close', code=code, reason=reason)
        event = self._hear('close')
        assert event['code'] == code

    def end(self) -> None:
        self.program.__exit__()


FOREIGN: dict[str, type[Client]] = {
    'websockets_sync': WebsocketsSync,
    'websockets_asyncio': WebsocketsAsyncio,
    'aiohttp': Aiohttp,
    'node_ws': NodeWs,
}
