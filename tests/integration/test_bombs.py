"""Messages that are a thousand times larger inflated than on the wire: they
end at the limit, and take no memory beyond it."""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from programs import Program
from rawends import answer
from rawpeer import BINARY, CLOSE, CONTINUATION, RawPeer, pack
from rawservers import Asked, serving

MIB = 1 << 20
SIZE = 900  # MiB, of about 0.9 MB
LIMIT = MIB  # that of twspy where nothing else is said
ROOM = 16 * MIB
RSV1 = 4
TAIL = b'\x00\x00\xff\xff'
NAMES = ['permessage-deflate', 'deflate-frame']

# Prints its port, then in a line how the connection ended, how many bytes of
# messages it has got, and by how much its memory has grown at most.
PROGRAM = """
import sys
import twspy

way, limit, peer = sys.argv[1], eval(sys.argv[2]), sys.argv[3]
both = [twspy.DeflateMessage(), twspy.DeflateFrame()]

def peak():
    with open('/proc/self/status') as status:
        for line in status:
            if line.startswith('VmHWM'):
                return int(line.split()[1]) << 10

def begin():
    global before
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # proc(5): the peak begins anew
    before = peak()

def tell(code, total):
    print(code, total, peak() - before, flush=True)

def receive(connection):
    total = 0
    try:
        if way.endswith('stream'):
            for chunk in connection.recv_stream(max_size=limit):
                total += len(chunk)
        else:
            total += len(connection.recv().payload)
    except twspy.ProtocolError as error:
        tell(error.code, total)
    else:
        tell(None, total)

class Server(twspy.Server):
    def onopen(self, client):
        begin()
        if way == 'server stream':
            receive(client)
            client.close()

    def onmessage(self, client, message):
        tell('message', len(message.payload))

    def onclose(self, client, message):
        if way == 'server':
            tell(message.code, 0)

if way.startswith('server'):
    server = Server(('127.0.0.1', 0), compression=both)
    server.start()
    print(server.address[1], flush=True)
    sys.stdin.read()
    server.stop()
elif way.startswith('accept'):
    sock = twspy.websocket(compression=both)
    sock.bind(('127.0.0.1', 0))
    sock.listen()
    print(sock.getsockname()[1], flush=True)
    with sock, twspy.Connection(sock.accept()) as connection:
        begin()
        receive(connection)
else:
    with twspy.connect(peer, compression=both) as connection:
        begin()
        receive(connection)
"""


def zeros(count: int) -> Iterator[bytes]:
    """So many MiB of zeros, deflated: each piece refers to the last."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(MIB)
    first = deflater.compress(block) + deflater.flush(zlib.Z_SYNC_FLUSH)
    again = deflater.compress(block) + deflater.flush(zlib.Z_SYNC_FLUSH)
    yield first
    for _ in range(count - 2):
        yield again
    yield again.removesuffix(TAIL)


def test_the_bomb_is_one() -> None:
    inflater = zlib.decompressobj(-15)
    total = sum(len(inflater.decompress(piece)) for piece in zeros(5))
    assert total + len(inflater.decompress(TAIL)) == 5 * MIB
    assert len(b''.join(zeros(SIZE))) < MIB


def frames(name: str, form: str, mask: bool, size: int) -> bytes:
    """The bomb as one frame, or in many fragments."""
    pieces = list(zeros(size))
    if form == 'frame':
        pieces = [b''.join(pieces)]
    per_frame = name == 'deflate-frame'
    if per_frame:
        pieces = [piece.removesuffix(TAIL) for piece in pieces]
    last = len(pieces) - 1
    return b''.join(
        pack(
            CONTINUATION if number else BINARY,
            piece,
            fin=number == last,
            rsv=RSV1 if per_frame or number == 0 else 0,
            mask=mask,
        )
        for number, piece in enumerate(pieces)
    )


def throw(peer: RawPeer, bomb: bytes) -> list[int]:
    """Send it and read on; the code of the other end's Close frame."""

    def send() -> None:
        try:
            peer.send(bomb)
        except OSError:
            pass

    codes: list[int] = []
    thread = threading.Thread(target=send)
    thread.start()
    try:
        while not codes:
            frame = peer.read_frame()
            if frame.opcode == CLOSE:
                codes.append(frame.close_code)
    except (EOFError, OSError):
        # The other end has gone with some of the bomb unread.
        pass
    finally:
        peer.sock.close()
        thread.join()
    return codes


@contextmanager
def program(way: str, limit: object, peer: str = '') -> Iterator[Program]:
    options = os.environ.get('ASAN_OPTIONS', '')
    with Program(
        *(sys.executable, '-W', 'error', '-c', PROGRAM),
        *(way, repr(limit), peer),
        # A sanitizer keeps what was freed, up to this.
        env={'ASAN_OPTIONS': f'{options}:quarantine_size_mb=1'},
    ) as running:
        yield running


def explode(
    way: str, name: str, form: str, limit: object = None, size: int = SIZE
) -> tuple[Sequence[int], str, int]:
    """What the peer was told; what the program got, and its bytes."""
    if way.startswith('connect'):
        bomb = frames(name, form, mask=False, size=size)
        codes: list[int] = []

        def react(peer: RawPeer, asked: Asked) -> None:
            peer.send(answer(asked.head, Sec_WebSocket_Extensions=name))
            codes.extend(throw(peer, bomb))

        with serving(react) as server:
            with program(way, limit, server.url) as running:
                words = running.next_line().split()
    else:
        bomb = frames(name, form, mask=True, size=size)
        with program(way, limit) as running:
            port = int(running.wait_for(r'^\d+$')[0])
            with RawPeer.connect(
                ('127.0.0.1', port), Sec_WebSocket_Extensions=name
            ) as peer:
                codes = throw(peer, bomb)
            words = running.wait_for(r'^\S+ \d+ \d+$')[0].split()
    code, total, grown = words
    assert int(grown) < ROOM
    return codes, code, int(total)


WAYS = ['server', 'accept', 'connect']
FORMS = ['frame', 'fragments']


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('way', WAYS)
def test_a_bomb_ends_at_the_limit(way: str, name: str, form: str) -> None:
    codes, code, total = explode(way, name, form)
    assert (code, total) == ('1009', 0)
    assert codes in ([1009], [])  # a reset may have destroyed it


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('way', WAYS)
def test_a_stream_ends_at_its_own_limit(way: str, form: str) -> None:
    _, code, total = explode(
        f'{way} stream', 'permessage-deflate', form, limit=3 * MIB
    )
    assert code == '1009'
    assert total <= 3 * MIB


@pytest.mark.parametrize('way', WAYS)
def test_a_stream_without_a_limit_takes_no_memory(way: str) -> None:
    size = 200
    _, code, total = explode(
        f'{way} stream', 'permessage-deflate', 'frame', size=size
    )
    assert (code, total) == ('None', size * MIB)
