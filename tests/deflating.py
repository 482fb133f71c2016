"""What tests of compression send, and a server that echoes it."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

import twspy

Message = str | bytes

PLAIN = 1000  # bytes of handshake and heads that come on top


def make_messages() -> list[Message]:
    """Such as refer to those before them, and such as can't."""
    rng = random.Random(8)
    words = [f'{rng.getrandbits(32):x}' for _ in range(60)]
    records = [
        json.dumps({'number': number, 'words': rng.choices(words, k=100)})
        for number in range(8)
    ]
    return [
        'Hello',
        records[0],
        'Grüße an 世界 🌍',
        '',
        records[1],
        records[2],
        b'',
        b'\x00\x00\xff\xff',
        records[3].encode(),
        rng.randbytes(1000),
        records[0],
        'Grüße an 世界 ' * 1500,  # more than the largest window
        records[4],
        rng.randbytes(300),
        *records[5:],
    ]


MESSAGES = make_messages()


def size_of(messages: Sequence[Message]) -> int:
    return sum(
        len(m.encode()) if isinstance(m, str) else len(m) for m in messages
    )


class Traffic(NamedTuple):
    """Bytes of a connection, as the kernel has counted them."""

    sent: int
    received: int

    @classmethod
    def of(cls, sock: twspy.websocket) -> Traffic:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 208)
        assert isinstance(info, bytes)
        # tcpi_bytes_sent and tcpi_bytes_received, linux/tcp.h
        return cls(
            *struct.unpack_from('=Q', info, 200),
            *struct.unpack_from('=Q', info, 128),
        )


def send(connection: twspy.Connection, number: int, message: Message) -> None:
    """Send it as the number says: whole, in fragments, or uncompressed."""
    if number % 4 == 1:
        connection.send(message, fragment_size=len(message) // 3 or 1)
    else:
        compress = {0: None, 2: False, 3: True}[number % 4]
        connection.send(message, compress=compress)


class EchoServer(twspy.Server):
    """Of one client at a time."""

    extensions: tuple[twspy.Extension, ...] = ()
    traffic = Traffic(0, 0)
    count = 0

    def onopen(self, client: twspy.Connection) -> None:
        self.extensions = client.extensions
        self.count = 0

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        send(client, self.count, message.payload)
        self.count += 1
        self.traffic = Traffic.of(client.sock)


def check_traffic(traffic: Traffic) -> None:
    """A quarter of the messages goes as it is, and noise stays noise."""
    limit = size_of(MESSAGES) * 0.6 + PLAIN
    assert 0 < traffic.sent < limit
    assert 0 < traffic.received < limit
