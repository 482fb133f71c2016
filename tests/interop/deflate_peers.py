"""Clients and servers of other implementations that compress."""

from __future__ import annotations

import base64
import json
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import aiohttp.web
import websockets.asyncio.client
import websockets.asyncio.connection
import websockets.asyncio.server
from deflating import Message
from interop.client_ends import Loop
from programs import Program
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.typing import Data

HERE = Path(__file__).resolve().parent
MAX = 8 << 20


class Terms(NamedTuple):
    """The parameters of RFC 7692 section 7.1; None: not given.

    client_bits: True is client_max_window_bits without a value.
    """

    server_alone: bool = False
    client_alone: bool = False
    server_bits: int | None = None
    client_bits: int | bool | None = True

    @property
    def names(self) -> dict[str, Any]:
        """The arguments of those that call them as the RFC does."""
        return {
            'server_no_context_takeover': self.server_alone,
            'client_no_context_takeover': self.client_alone,
            'server_max_window_bits': self.server_bits,
            'client_max_window_bits': self.client_bits,
        }


class Outcome(NamedTuple):
    """What a client has seen."""

    extensions: str  # of the answer
    error: str | None  # how it failed


class Peer(ABC):
    """An implementation, as a server that echoes and as clients."""

    #: Whether it sends with a window of 8 bits.
    deflates_8 = False
    #: Whether a server of it tells clients what their parameters are.
    limits_clients = True
    #: Whether a client of it offers more than server_max_window_bits.
    offers_all = True

    @abstractmethod
    def url(self, terms: Terms) -> str:
        """Of a server that wants this of clients."""

    @abstractmethod
    def run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        """Send messages as a client that offers this; each must come back."""

    @abstractmethod
    def end(self) -> None: ...


def thirds(message: Message) -> list[Any]:
    """The fragments in which peers send a message."""
    size = -(-len(message) // 3) or 1
    return [message[at : at + size] for at in range(0, 3 * size, size)]


class Websockets(Peer):
    """Always compresses, so that only what twspy sends is mixed."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.servers: dict[Terms, int] = {}
        self.stack = AsyncExitStack()

    def url(self, terms: Terms) -> str:
        if terms not in self.servers:
            self.servers[terms] = self.loop.run(self._serve(terms))
        return f'ws://127.0.0.1:{self.servers[terms]}/'

    async def _serve(self, terms: Terms) -> int:
        options = terms.names
        if terms.client_bits is True:
            options['client_max_window_bits'] = None
        server = await self.stack.enter_async_context(
            websockets.asyncio.server.serve(
                self._echo,
                '127.0.0.1',
                0,
                compression=None,
                extensions=[ServerPerMessageDeflateFactory(**options)],
                max_size=MAX,
            )
        )
        port: int = next(iter(server.sockets)).getsockname()[1]
        return port

    async def _echo(
        self, connection: websockets.asyncio.server.ServerConnection
    ) -> None:
        count = 0
        async for message in connection:
            await self._send(connection, count, message)
            count += 1

    async def _send(
        self,
        connection: websockets.asyncio.connection.Connection,
        number: int,
        message: Data,
    ) -> None:
        await connection.send(thirds(message) if number % 4 == 1 else message)

    def run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        return self.loop.run(self._run(url, terms, messages))

    async def _run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        factory = ClientPerMessageDeflateFactory(**terms.names)
        try:
            connection = await websockets.asyncio.client.connect(
                url,
                compression=None,
                extensions=[factory],
                proxy=None,
                max_size=MAX,
            )
        except InvalidHandshake as error:
            return Outcome('', str(error))
        error_seen = None
        try:
            for number, message in enumerate(messages):
                await self._send(connection, number, message)
            for number, message in enumerate(messages):
                if await connection.recv() != message:
                    error_seen = f'echo {number} differs'
            await connection.close()
        except ConnectionClosed as error:
            error_seen = str(error)
        assert connection.response is not None
        extensions = connection.response.headers.get(
            'Sec-WebSocket-Extensions', ''
        )
        return Outcome(extensions, error_seen)

    def end(self) -> None:
        self.loop.run(self.stack.aclose())
        self.loop.end()


class Aiohttp(Peer):
    """Can't send fragments. A server of it can't be told parameters, and a
    client offers the server's window only."""

    limits_clients = False
    offers_all = False

    def __init__(self) -> None:
        self.loop = Loop()
        self.port = self.loop.run(self._serve())

    async def _serve(self) -> int:
        application = aiohttp.web.Application()
        application.router.add_get('/', self._echo)
        self.runner = aiohttp.web.AppRunner(application)
        await self.runner.setup()
        site = aiohttp.web.TCPSite(self.runner, '127.0.0.1', 0)
        await site.start()
        port: int = self.runner.addresses[0][1]
        return port

    async def _echo(
        self, request: aiohttp.web.Request
    ) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse(max_msg_size=MAX)
        await socket.prepare(request)
        async for message in socket:
            await self._send(socket, message.data)
        return socket

    async def _send(self, socket: Any, message: Message) -> None:
        if isinstance(message, str):
            await socket.send_str(message)
        else:
            await socket.send_bytes(message)

    def url(self, terms: Terms) -> str:
        assert terms == Terms()
        return f'ws://127.0.0.1:{self.port}/'

    def run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        assert terms == Terms(server_bits=terms.server_bits)
        return self.loop.run(self._run(url, terms, messages))

    async def _run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        async with aiohttp.ClientSession() as session:
            try:
                socket = await session.ws_connect(
                    url, compress=terms.server_bits or 15, max_msg_size=MAX
                )
            except aiohttp.WSServerHandshakeError as error:
                return Outcome('', str(error))
            error_seen = None
            for message in messages:
                await self._send(socket, message)
            for number, message in enumerate(messages):
                answer = await socket.receive()
                if answer.data != message:
                    error_seen = f'echo {number}: {answer}'
                    break
            await socket.close()
            headers = socket._response.headers
            extensions = headers.get('Sec-WebSocket-Extensions', '')
            return Outcome(extensions, error_seen)

    def end(self) -> None:
        self.loop.run(self.runner.cleanup())
        self.loop.end()


class NodeWs(Peer):
    deflates_8 = True

    def __init__(self) -> None:
        self.program = Program('node', HERE / 'deflate.js')
        self.port = json.loads(self.program.next_line())['port']

    def _options(self, terms: Terms) -> dict[str, Any]:
        return {
            'threshold': 0,
            'serverNoContextTakeover': terms.server_alone or None,
            'clientNoContextTakeover': terms.client_alone or None,
            'serverMaxWindowBits': terms.server_bits,
            'clientMaxWindowBits': terms.client_bits,
        }

    def url(self, terms: Terms) -> str:
        options = json.dumps(self._options(terms))
        query = urllib.parse.quote(options, safe='')
        return f'ws://127.0.0.1:{self.port}/?{query}'

    def run(
        self, url: str, terms: Terms, messages: Sequence[Message]
    ) -> Outcome:
        options = self._options(terms)
        if terms.client_bits is None:
            options['clientMaxWindowBits'] = False
        command = {
            'url': url,
            'options': options,
            'messages': [
                {'text': message}
                if isinstance(message, str)
                else {'binary': base64.b64encode(message).decode()}
                for message in messages
            ],
        }
        self.program.type(json.dumps(command))
        result = json.loads(self.program.next_line())
        return Outcome(result['extensions'], result['error'])

    def end(self) -> None:
        self.program.__exit__()


PEERS: dict[str, type[Peer]] = {
    'websockets': Websockets,
    'aiohttp': Aiohttp,
    'node_ws': NodeWs,
}
