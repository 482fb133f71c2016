"""Clients of a server that have agreed on permessage-deflate or deflate-frame:
send(), send_stream(), broadcast(), client.sock, and what they send, against
Python's own zlib."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer
from servers import SOON, EchoServer
from zlibends import Deflater, Inflater

import twspy

RSV1 = 4
LARGE = 1 << 20
JSON = json.dumps([{'id': i, 'name': f'name {i}'} for i in range(40)])

EXTENSIONS = [twspy.DeflateMessage, twspy.DeflateFrame]

Offer = tuple[str, dict[str, Any]]
OFFERS: list[Offer] = [
    ('permessage-deflate', {}),
    (
        'permessage-deflate; server_no_context_takeover; '
        'client_no_context_takeover',
        {'takeover': False},
    ),
    ('permessage-deflate; server_max_window_bits=9', {'bits': 9}),
    ('deflate-frame', {'per_frame': True}),
]


class Peer:
    """A raw client that compresses all it sends."""

    def __init__(
        self,
        server: twspy.Server,
        offer: str,
        *,
        takeover: bool = True,
        bits: int = 15,
        per_frame: bool = False,
    ) -> None:
        self.raw = RawPeer.connect(
            server.address, Sec_WebSocket_Extensions=offer
        )
        self.per_frame = per_frame
        self.inflate = Inflater(bits, takeover)
        self.deflate = Deflater(15, takeover)

    def send(self, data: bytes, opcode: int = TEXT) -> None:
        self.raw.send_frame(opcode, self.deflate(data), rsv=RSV1)

    def recv(self) -> tuple[bytes, list[int]]:
        """The next message, and the reserved bits of its frames."""
        data = b''
        bits: list[int] = []
        while True:
            frame = self.raw.read_frame()
            if frame.opcode >= CLOSE:
                assert frame.rsv == 0
                assert frame.opcode != CLOSE, frame
                continue
            assert (frame.opcode == CONTINUATION) == bool(bits)
            bits.append(frame.rsv)
            if self.per_frame:
                data += (
                    self.inflate(frame.payload) if frame.rsv else frame.payload
                )
            else:
                data += frame.payload
                assert len(bits) == 1 or frame.rsv == 0
            if frame.fin:
                break
        if not self.per_frame and bits[0]:
            data = self.inflate(data)
        return data, bits

    def expect(self, data: bytes, *bits: int) -> None:
        assert self.recv() == (data, list(bits))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer(extensions=EXTENSIONS) as server:
        yield server


@pytest.fixture(params=OFFERS, ids=['all', 'alone', 'bits', 'frame'])
def offer(request: pytest.FixtureRequest) -> Offer:
    chosen: Offer = request.param
    return chosen


def held(server: EchoServer) -> twspy.Connection:
    """The next client."""
    client: twspy.Connection = server.wait_for('open')[0]
    return client


def test_echo(server: EchoServer, offer: Offer) -> None:
    with Peer(server, offer[0], **offer[1]) as peer:
        for _ in range(3):
            peer.send(JSON.encode())
            peer.expect(JSON.encode(), RSV1)
            peer.send(b'short')
            peer.expect(b'short', 0)
            noise = os.urandom(5000) * 40
            peer.send(noise, BINARY)
            data, bits = peer.recv()
            assert data == noise
            assert len(bits) == 1
            large = bytes(LARGE)
            peer.send(large, BINARY)
            peer.expect(large, RSV1)
            peer.raw.send_frame(PING, b'x')
            assert peer.raw.read_frame().opcode == PONG


def test_send(server: EchoServer, offer: Offer) -> None:
    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)
        assert len(client.extensions) == 1
        client.send('tiny')
        client.send('tiny', compress=True)
        client.send(JSON, compress=False)
        client.send(JSON)
        client.send(JSON, compress=None, timeout=SOON)
        peer.expect(b'tiny', 0)
        peer.expect(b'tiny', RSV1)
        peer.expect(JSON.encode(), 0)
        peer.expect(JSON.encode(), RSV1)
        peer.expect(JSON.encode(), RSV1)
        client.send(JSON * 3, 7, compress=True)
        data, bits = peer.recv()
        assert data == JSON.encode() * 3
        assert len(bits) > 1
        assert set(bits) == ({RSV1} if peer.per_frame else {0, RSV1})
        client.send(bytes(LARGE))
        peer.expect(bytes(LARGE), RSV1)


def test_compress_without_an_agreement(server: EchoServer) -> None:
    with RawPeer.connect(server.address) as raw:
        client = held(server)
        client.send('tiny', compress=True)
        assert raw.read_frame()[:2] == (TEXT, b'tiny')
        with client.send_stream(compress=True) as out:
            out.write(b'tiny')
        assert raw.read_frame()[:2] == (BINARY, b'tiny')
        server.broadcast('tiny', compress=True)
        assert raw.read_frame()[:2] == (TEXT, b'tiny')


def test_send_stream(server: EchoServer, offer: Offer) -> None:
    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)
        for compress in None, False, True:
            client.send(JSON)
            with client.send_stream(
                text=True, fragment_size=1000, compress=compress
            ) as out:
                out.write(JSON[:10])
                out.flush()
                thread = threading.Thread(target=client.send, args=(JSON,))
                thread.start()
                thread.join()
                out.write(JSON[10:])
                out.write(JSON)
            client.send(JSON)
            peer.expect(JSON.encode(), RSV1)
            data, bits = peer.recv()
            assert data == JSON.encode() * 2
            assert len(bits) > 3
            if compress is False:
                assert set(bits) == {0}
            elif peer.per_frame:
                assert set(bits) == {RSV1}
            else:
                assert bits == [RSV1] + [0] * (len(bits) - 1)
            peer.expect(JSON.encode(), RSV1)
            peer.expect(JSON.encode(), RSV1)


def test_hooks_on_frames(server: EchoServer, offer: Offer) -> None:
    """They see what the program has sent, not what is on the wire."""
    seen: list[bytes] = []

    def look(frame: twspy.Frame) -> twspy.Frame:
        seen.append(frame.payload)
        return frame

    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)
        client.send(JSON)
        peer.expect(JSON.encode(), RSV1)
        with client.send_stream(fragment_size=500) as out:
            out.write(JSON.encode())
            client.sock.add_hook(send=look)
            out.write(JSON.encode())
        data, bits = peer.recv()
        assert data == JSON.encode() * 2
        assert bits[0] == RSV1
        assert b''.join(seen) in data
        client.send(JSON)
        peer.expect(JSON.encode(), RSV1)
        client.sock.send(twspy.Frame(twspy.OPCODE_TEXT, JSON.encode()))
        peer.expect(JSON.encode(), RSV1)
        client.sock.send(
            twspy.Frame(twspy.OPCODE_TEXT, b'a', final=False),
            twspy.Frame(twspy.OPCODE_CONTINUATION, b'b'),
        )
        peer.expect(b'ab', 0, 0)
        assert seen[-4:] == [JSON.encode(), JSON.encode(), b'a', b'b']


def test_frames_that_the_program_has_compressed(
    server: EchoServer, offer: Offer
) -> None:
    """What follows does not refer to what was before them."""
    ping = twspy.Frame(twspy.OPCODE_PING, b'')
    foreign = bytes(1 << 17)
    frame = twspy.Frame(
        twspy.OPCODE_BINARY, Deflater(9)(foreign, alone=True), rsv1=True
    )
    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)
        for frames in [frame], [ping, frame]:
            client.send(JSON)
            peer.expect(JSON.encode(), RSV1)
            client.sock.send(*frames)
            peer.expect(foreign, RSV1)
            client.send(JSON)
            peer.expect(JSON.encode(), RSV1)


def test_a_small_message_in_pieces(server: EchoServer, offer: Offer) -> None:
    """In one frame it is judged by its size, like any other."""
    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)
        for compress, bits in (None, [0]), (True, [RSV1]), (False, [0]):
            with client.send_stream(text=True, compress=compress) as out:
                out.write('small')
            peer.expect(b'small', *bits)
            client.send(JSON)
            peer.expect(JSON.encode(), RSV1)


def test_broadcast(server: EchoServer) -> None:
    peers = [Peer(server, offer, **how) for offer, how in OFFERS * 2]
    plain = RawPeer.connect(server.address)
    for _ in range(len(peers) + 1):
        server.wait_for('open')
    for number in range(5):
        for client in server.clients[::2]:
            client.send(JSON)
        assert server.broadcast(f'{number} {JSON}') == len(peers) + 1
        assert server.broadcast('tiny') == len(peers) + 1
        assert server.broadcast('tiny', compress=True) == len(peers) + 1
        assert server.broadcast(JSON, compress=False) == len(peers) + 1
    large = bytes(LARGE)
    assert server.broadcast(large) == len(peers) + 1
    for peer in peers:
        for number in range(5):
            first = peer.recv()
            if first[0] == JSON.encode():
                assert first[1] == [RSV1]
                first = peer.recv()
            assert first == (f'{number} {JSON}'.encode(), [RSV1])
            peer.expect(b'tiny', 0)
            peer.expect(b'tiny', RSV1)
            peer.expect(JSON.encode(), 0)
        peer.expect(large, RSV1)
    for peer in peers:
        peer.raw.close()
    plain.close()


def test_broadcast_beside_senders(server: EchoServer, offer: Offer) -> None:
    """Threads that send and others that broadcast: each message comes once,
    and can be read."""
    count = 60
    with Peer(server, offer[0], **offer[1]) as peer:
        client = held(server)

        def send(name: str) -> None:
            for number in range(count):
                text = f'{name} {number} {JSON}'
                if name < 'c':
                    client.send(text)
                else:
                    server.broadcast(text)

        threads = [threading.Thread(target=send, args=(n,)) for n in 'abcd']
        for thread in threads:
            thread.start()
        following = dict.fromkeys('abcd', 0)
        for _ in range(4 * count):
            data, _ = peer.recv()
            name, number, text = data.decode().split(' ', 2)
            assert int(number) == following[name]
            assert text == JSON
            following[name] += 1
        for thread in threads:
            thread.join()


def test_recv_stream_in_a_handler(offer: Offer) -> None:
    class Counter(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            if message.payload == 'stream':
                sizes = [len(chunk) for chunk in client.recv_stream()]
                assert max(sizes) <= 1 << 16
                client.send(f'{sum(sizes)}')
            elif message.payload == 'part':
                for chunk in client.recv_stream():
                    client.send(f'{len(chunk) > 0}')
                    break
            else:
                client.send(message)

    with (
        Counter(extensions=EXTENSIONS, max_size=10000) as server,
        Peer(server, offer[0], **offer[1]) as peer,
    ):
        for _ in range(3):
            peer.send(b'stream')
            peer.send(bytes(LARGE), BINARY)
            peer.expect(str(LARGE).encode(), 0)
            peer.send(b'part')
            peer.send(bytes(LARGE), BINARY)
            peer.expect(b'True', 0)
            peer.send(JSON[:5000].encode())
            peer.expect(JSON[:5000].encode(), RSV1)


@pytest.mark.parametrize(
    ('opcode', 'payload', 'code'),
    [
        (TEXT, b'\xff\xff\xff', 1007),
        (TEXT, Deflater()(b'\xff'), 1007),
        (BINARY, Deflater()(bytes(2 * LARGE)), 1009),
        (PING, b'x', 1002),
    ],
)
def test_broken_rules(
    server: EchoServer, offer: Offer, opcode: int, payload: bytes, code: int
) -> None:
    with Peer(server, offer[0], **offer[1]) as peer:
        peer.raw.send_frame(opcode, payload, rsv=RSV1)
        assert peer.raw.read_frame().close_code == code
