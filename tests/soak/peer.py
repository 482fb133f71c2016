"""A WebSocket client of asyncio streams that says whatever it is told to, and
what a load process counts of its clients.

Shares no code with the package, so that a mistake there does not hide here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import socket
import ssl
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    GUID,
    PING,
    PONG,
    TEXT,
    close_payload,
    pack,
    request,
)

HANDSHAKE_TIME = 60.0
TAIL = b'\x00\x00\xff\xff'
RSV1 = 4


class Wrong(Exception):
    """The server did what it must not do."""


class Got(NamedTuple):
    """A frame as it came."""

    opcode: int
    payload: bytes
    fin: bool
    rsv: int

    @property
    def close_code(self) -> int:
        """The code of a Close frame; 1005 where it has none."""
        return int.from_bytes(self.payload[:2], 'big') or 1005


class CutOff(Wrong):
    """The server did not wait any longer for a pong."""


GONE = (
    asyncio.IncompleteReadError,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    CutOff,
)


class Tally:
    """What a kind of clients has done."""

    def __init__(self) -> None:
        self.begun = 0  # lives
        self.opened = 0  # that got a 101
        self.done = 0  # lives that ended as they must
        self.late = 0  # lives in which this process was late
        self.excused = 0  # of these, such as were cut off for it
        self.sent = 0
        self.received = 0
        self.ends: Counter[str] = Counter()  # how the server ended them
        self.failures: list[str] = []

    def fail(self, text: str) -> None:
        self.failures.append(text[:2000])
        del self.failures[5:]


class Place(NamedTuple):
    """Where a server listens, and how to get there."""

    ports: dict[str, int]
    limits: dict[str, Any]
    context: ssl.SSLContext


class Codec:
    """The two contexts of a compressed connection, as they were agreed on.

    offer, answer: the extension with its parameters, as in the header fields
    """

    def __init__(self, offer: str, answer: str) -> None:
        name, asked = parse(offer)
        same, agreed = parse(answer)
        if name != same:
            raise Wrong(f'offered {offer!r}, got {answer!r}')
        self.per_frame = name != 'permessage-deflate'
        if self.per_frame:  # each end says what the other one has to do
            self.out_bits = int(agreed.get('max_window_bits', 15))
            self.out_alone = 'no_context_takeover' in agreed
            self.into_bits = int(asked.get('max_window_bits', 15))
            self.into_alone = 'no_context_takeover' in asked
        else:
            self.out_bits = int(agreed.get('client_max_window_bits', 15))
            self.out_alone = 'client_no_context_takeover' in agreed
            self.into_bits = int(agreed.get('server_max_window_bits', 15))
            self.into_alone = 'server_no_context_takeover' in agreed
        self.out: Any = None
        self.into: Any = None

    def deflate(self, data: bytes) -> bytes:
        if self.out is None or self.out_alone:
            # Its distances are 250 at most with 9, which is good for 8.
            bits = max(self.out_bits, 9)
            self.out = zlib.compressobj(wbits=-bits, memLevel=4)
        out: bytes = self.out.compress(data)
        out += self.out.flush(zlib.Z_SYNC_FLUSH)
        return out[:-4] or b'\x00'

    def inflate(self, data: bytes) -> bytes:
        if self.into is None or self.into_alone:
            self.into = zlib.decompressobj(wbits=-self.into_bits)
        out: bytes = self.into.decompress(data + TAIL)
        return out


def parse(extension: str) -> tuple[str, dict[str, str]]:
    """The name and the parameters of one extension."""
    name, *params = extension.split(';')
    pairs = (param.strip().partition('=') for param in params)
    return name.strip(), {key: value for key, _, value in pairs}


class Peer:
    """One end of a connection; counts messages in its tally."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tally: Tally,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.tally = tally
        self.codec: Codec | None = None
        self.pings = 0

    # Bytes

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def exactly(self, count: int) -> bytes:
        return await self.reader.readexactly(count)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read an HTTP answer's head."""
        data = await self.reader.readuntil(b'\r\n\r\n')
        first, *lines = data[:-4].decode('latin-1').split('\r\n')
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(': ')
            name = name.lower()
            if name in fields:  # Digest's challenges
                value = f'{fields[name]}\n{value}'
            fields[name] = value
        return int(first.split()[1]), fields

    async def refusal(self) -> int:
        """Read a whole answer that is no 101, then the end."""
        status, fields = await self.head()
        if status == 101:
            raise Wrong('accepted with 101, expected a refusal')
        await self.exactly(int(fields['content-length']))
        await self.end()
        return status

    async def end(self) -> None:
        """The stream must end here, in good order."""
        data = await self.reader.read(100)
        if data:
            raise Wrong(f'got {data!r}, expected the end of the stream')

    def abort(self) -> None:
        """End with a reset."""
        sock = self.writer.get_extra_info('socket')
        with contextlib.suppress(OSError):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
            )
        self.writer.transport.abort()

    # Handshake

    async def open(self, path: str, deflate: str = '', **fields: str) -> None:
        """Do the opening handshake and check the answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        if deflate:
            fields['Sec_WebSocket_Extensions'] = deflate
        self.write(request(path, key=key, **fields))
        status, head = await self.head()
        if status != 101:
            raise Wrong(f'answered {status} {head}, expected 101')
        digest = hashlib.sha1(key.encode() + GUID).digest()
        if head['sec-websocket-accept'] != base64.b64encode(digest).decode():
            raise Wrong(f'the answer {head} is to another key')
        if deflate:
            answer = head.get('sec-websocket-extensions', '')
            self.codec = Codec(deflate, answer)
        self.tally.opened += 1

    # Frames and messages

    def frame(self, opcode: int, payload: bytes = b'', **how: Any) -> None:
        self.write(pack(opcode, payload, **how))

    def send(self, opcode: int, payload: bytes, parts: int = 1) -> None:
        """Send a message, in so many fragments."""
        self.tally.sent += 1
        size = max(-(-len(payload) // parts), 1)
        per_frame = self.codec is not None and self.codec.per_frame
        if self.codec is not None and not per_frame:
            payload = self.codec.deflate(payload)
            size = max(-(-len(payload) // parts), 1)
        starts = range(0, max(len(payload), 1), size)
        for start in starts:
            part = payload[start : start + size]
            rsv = RSV1 if self.codec and start == 0 else 0
            if per_frame:
                assert self.codec is not None
                part, rsv = self.codec.deflate(part), RSV1
            self.frame(
                opcode if start == 0 else CONTINUATION,
                part,
                fin=start == starts[-1],
                rsv=rsv,
            )

    async def read_frame(self) -> Got:
        first, second = await self.exactly(2)
        length = second & 127
        if length == 126:
            length = int.from_bytes(await self.exactly(2), 'big')
        elif length == 127:
            length = int.from_bytes(await self.exactly(8), 'big')
        if second & 128:
            raise Wrong('a frame of the server is masked')
        payload = await self.exactly(length) if length else b''
        return Got(first & 15, payload, first >= 128, first >> 4 & 7)

    async def next(self) -> Got:
        """The next frame that is no ping; those are answered."""
        while True:
            frame = await self.read_frame()
            if frame.opcode == CLOSE and frame.close_code == 1011:
                raise CutOff(f'got {frame}')
            if frame.opcode != PING:
                return frame
            self.pings += 1
            self.frame(PONG, frame.payload)

    async def message(self) -> tuple[int, bytes]:
        """The next message."""
        payload = b''
        opcode = rsv = 0
        while True:
            frame = await self.next()
            if frame.opcode not in (TEXT, BINARY, CONTINUATION):
                raise Wrong(f'got {frame!r:.300}, expected a message')
            part = frame.payload
            if frame.rsv and self.codec and self.codec.per_frame:
                part = self.codec.inflate(part)
            if frame.opcode != CONTINUATION:
                opcode, rsv = frame.opcode, frame.rsv
            payload += part
            if frame.fin:
                break
        if rsv and self.codec and not self.codec.per_frame:
            payload = self.codec.inflate(payload)
        self.tally.received += 1
        return opcode, payload

    async def expect(self, opcode: int, payload: bytes) -> None:
        """The next message must be this one."""
        got = await self.message()
        if got != (opcode, payload):
            raise Wrong(
                f'got {got!r:.300} of {len(got[1])} bytes, expected '
                f'{(opcode, payload)!r:.300} of {len(payload)}'
            )

    async def echo(self, opcode: int, payload: bytes, parts: int = 1) -> None:
        self.send(opcode, payload, parts)
        await self.writer.drain()
        await self.expect(opcode, payload)

    # The end

    async def close_frame(self) -> int:
        """Read up to a Close frame; returns its code."""
        while True:
            frame = await self.read_frame()
            if frame.opcode == CLOSE:
                return frame.close_code

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Do the closing handshake from this side."""
        self.frame(CLOSE, close_payload(code, reason))
        frame = await self.next()
        if frame.opcode != CLOSE or frame.close_code != code:
            raise Wrong(f'got {frame!r:.300}, expected Close {code}')
        await self.end()


@contextlib.asynccontextmanager
async def dial(
    place: Place,
    tally: Tally,
    name: str = 'plain',
    *,
    secure: bool = False,
    room: int = 0,
) -> AsyncIterator[Peer]:
    """Connect from one of many source addresses, without a handshake.

    secure: with TLS, which the listener 'tls' speaks
    room: bytes that the system takes before they are read, 0: its default
    """
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.bind((f'127.0.0.{random.randrange(2, 250)}', 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ('127.0.0.1', place.ports[name]))
    except BaseException:
        sock.close()
        raise
    options: dict[str, Any] = {}
    if secure:
        options = {
            'ssl': place.context,
            'server_hostname': 'localhost',
            'ssl_handshake_timeout': HANDSHAKE_TIME,
            'ssl_shutdown_timeout': 5.0,
        }
    reader, writer = await asyncio.open_connection(
        sock=sock, limit=(room or 1 << 16), **options
    )
    peer = Peer(reader, writer, tally)
    try:
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            await asyncio.wait_for(writer.wait_closed(), 10)
        if not writer.transport.is_closing():
            peer.abort()
