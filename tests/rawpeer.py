"""A WebSocket client made of a plain socket: says whatever it is told to.

Shares no code with the package, so that a mistake there does not hide here.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import socket
import struct
from typing import NamedTuple

GUID = b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class RawFrame(NamedTuple):
    """A frame as it came."""

    opcode: int
    payload: bytes
    fin: bool
    rsv: int
    masked: bool
    length7: int
    """The 7 bits that are the length or say how long its form is."""
    key: bytes

    @property
    def close_code(self) -> int:
        """The code of a Close frame; 1005 where it has none."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return 1005
        return int.from_bytes(self.payload[:2], 'big')

    @property
    def close_reason(self) -> str:
        """The reason of a Close frame."""
        return self.payload[2:].decode()


def pack(
    opcode: int,
    payload: bytes = b'',
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    length: int | None = None,
    length_bytes: int | None = None,
    key: bytes | None = None,
) -> bytes:
    """Pack a frame; `length` lies about it, `length_bytes` widens it; the
    masking `key` is a random one unless it is given."""
    claimed = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if claimed < 126 else 2 if claimed < 65536 else 8
    head = bytes([fin << 7 | rsv << 4 | opcode])
    top = mask << 7
    if length_bytes == 0:
        head += bytes([top | claimed])
    elif length_bytes == 2:
        head += bytes([top | 126]) + struct.pack('>H', claimed)
    else:
        head += bytes([top | 127]) + struct.pack('>Q', claimed)
    if not mask:
        return head + payload
    if key is None:
        key = os.urandom(4)
    return head + key + xor(payload, key)


def xor(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask."""
    stream = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, 'big') ^ int.from_bytes(stream, 'big')
    return masked.to_bytes(len(payload), 'big')


def close_payload(code: int, reason: str = '') -> bytes:
    """Pack the payload of a Close frame."""
    return struct.pack('>H', code) + reason.encode()


def request(
    path: str = '/',
    *,
    host: str = 'localhost',
    key: str | None = None,
    remove: tuple[str, ...] = (),
    **fields: str,
) -> bytes:
    """Write an upgrade request; `fields` adds or replaces header fields."""
    head = {
        'Host': host,
        'Upgrade': 'websocket',
        'Connection': 'Upgrade',
        'Sec-WebSocket-Key': key or base64.b64encode(os.urandom(16)).decode(),
        'Sec-WebSocket-Version': '13',
    }
    for name in remove:
        del head[name]
    head.update(
        {name.replace('_', '-'): value for name, value in fields.items()}
    )
    lines = [f'GET {path} HTTP/1.1', *(f'{n}: {v}' for n, v in head.items())]
    return '\r\n'.join([*lines, '', '']).encode('latin-1')


def accept_key(head: dict[str, str]) -> str:
    """What Sec-WebSocket-Accept must be for a request."""
    key = head['sec-websocket-key'].encode()
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


def answer(head: dict[str, str], **fields: str) -> bytes:
    """A good 101; `fields` adds or replaces header fields."""
    lines = {
        'Upgrade': 'websocket',
        'Connection': 'Upgrade',
        'Sec-WebSocket-Accept': accept_key(head),
    } | {name.replace('_', '-'): value for name, value in fields.items()}
    text = ['HTTP/1.1 101 Switching Protocols']
    text += [f'{name}: {value}' for name, value in lines.items()]
    return '\r\n'.join([*text, '', '']).encode('latin-1')


class RawPeer:
    """One end of a connection, by hand."""

    def __init__(self, sock: socket.socket, timeout: float = 10.0) -> None:
        self.sock = sock
        self.sock.settimeout(timeout)
        self.address = sock.getsockname()
        self.buffer = b''

    @classmethod
    def open(cls, address: tuple[str, int], timeout: float = 10.0) -> RawPeer:
        """Connect without a handshake."""
        return cls(socket.create_connection(address, timeout), timeout)

    @classmethod
    def connect(
        cls, address: tuple[str, int], path: str = '/', **fields: str
    ) -> RawPeer:
        """Connect, do the opening handshake and check the answer."""
        peer = cls.open(address)
        key = base64.b64encode(os.urandom(16)).decode()
        peer.send(request(path, key=key, **fields))
        status, head = peer.read_head()
        assert status == 101, head
        digest = hashlib.sha1(key.encode() + GUID).digest()
        assert (
            head['sec-websocket-accept'] == base64.b64encode(digest).decode()
        )
        return peer

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def send_frame(
        self, opcode: int, payload: bytes = b'', **how: int
    ) -> None:
        """Send a frame; see pack()."""
        self.send(pack(opcode, payload, **how))  # type: ignore[arg-type]

    def read_more(self) -> None:
        """Read some bytes; EOFError where there are no more."""
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError(f'the stream ended, with {self.buffer!r} unread')
        self.buffer += data

    def read_exactly(self, count: int) -> bytes:
        """Read and return so many bytes."""
        pieces, have = [self.buffer], len(self.buffer)
        try:
            while have < count:
                piece = self.sock.recv(
                    min(max(count - have, 1 << 16), 1 << 18)
                )
                if not piece:
                    raise EOFError(f'the stream ended after {have} bytes')
                pieces.append(piece)
                have += len(piece)
        finally:
            self.buffer = b''.join(pieces)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Read an HTTP answer's head: status, fields in lower case."""
        while b'\r\n\r\n' not in self.buffer:
            self.read_more()
        head, self.buffer = self.buffer.split(b'\r\n\r\n', 1)
        first, *lines = head.decode('latin-1').split('\r\n')
        fields = (line.split(': ', 1) for line in lines)
        return int(first.split()[1]), {n.lower(): v for n, v in fields}

    def read_answer(self) -> tuple[int, dict[str, str], str]:
        """Read a whole HTTP answer, which must be followed by the end."""
        status, head = self.read_head()
        body = self.read_exactly(int(head['content-length']))
        self.expect_end()
        return status, head, body.decode()

    def read_frame(self) -> RawFrame:
        """Read one frame."""
        first, second = self.read_exactly(2)
        length = second & 127
        if length == 126:
            length = int.from_bytes(self.read_exactly(2), 'big')
        elif length == 127:
            length = int.from_bytes(self.read_exactly(8), 'big')
        key = self.read_exactly(4) if second & 128 else b''
        payload = self.read_exactly(length)
        if key:
            payload = xor(payload, key)
        return RawFrame(
            first & 15,
            payload,
            first >= 128,
            first >> 4 & 7,
            bool(key),
            second & 127,
            key,
        )

    def expect_end(self) -> None:
        """Check that the stream ends here, in good order."""
        assert self.buffer == b'', self.buffer
        assert self.sock.recv(1) == b''

    def echo(self, text: bytes = b'are you there?') -> None:
        """Check that the other end echoes."""
        self.send_frame(TEXT, text)
        frame = self.read_frame()
        assert (frame.opcode, frame.payload) == (TEXT, text), frame

    def end(self) -> None:
        """End the own direction only."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def reset(self) -> None:
        """End with a reset."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
        )
        self.sock.close()

    def close(self) -> None:
        """End without a word."""
        self.sock.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_request(peer: RawPeer) -> tuple[str, dict[str, str]]:
    """Read the head of a request: first line, fields in lower case."""
    while b'\r\n\r\n' not in peer.buffer:
        peer.read_more()
    text, peer.buffer = peer.buffer.split(b'\r\n\r\n', 1)
    first, *lines = text.decode('latin-1').split('\r\n')
    fields = (line.split(': ', 1) for line in lines)
    return first, {name.lower(): value for name, value in fields}
