"""Clients that break the rules, or keep silent: each has to be cut off, in
the way and within the time that is said here."""

from __future__ import annotations

import asyncio
import random
import zlib

from kinds import HELLO, Life, kind
from peer import GONE, RSV1, Peer, Wrong
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    pack,
    request,
)

GRACE = 30.0  # seconds that a cut may be late on a busy machine
FRAGMENTS = 131_072  # of a message, see docs/architecture/engine.md

BROKEN = {
    'unmasked': pack(TEXT, b'hi', mask=False),
    'rsv2': pack(TEXT, b'hi', rsv=2),
    'rsv3': pack(BINARY, b'hi', rsv=1),
    'rsv1 without an extension': pack(TEXT, b'hi', rsv=4),
    'opcode 3': pack(3),
    'opcode 11': pack(11),
    'a ping in fragments': pack(PING, b'hi', fin=False),
    'a ping of 126 bytes': pack(PING, b'x' * 126),
    'a Close of one byte': pack(CLOSE, b'\x03'),
    'Close 1005': pack(CLOSE, close_payload(1005)),
    'Close 999': pack(CLOSE, close_payload(999)),
    'a length with its top bit': pack(TEXT, length=1 << 63, length_bytes=8),
    'a length that is too wide': pack(TEXT, b'x' * 9, length_bytes=8),
    'a continuation of nothing': pack(CONTINUATION, b'hi'),
    'a text within a text': pack(TEXT, b'a', fin=False) + pack(TEXT, b'b'),
}
NOT_UTF8 = (
    b'\x80',
    b'\xc0\xaf',
    b'\xed\xa0\x80',
    b'\xf4\x90\x80\x80',
    b'ok \xff',
    b'cut \xc3',
)
REFUSED = {
    'no request': (b'hello\r\n\r\n', 400),
    'garbage': (bytes(range(128, 256)) + b'\r\n\r\n', 400),
    'a hello of TLS': (HELLO, 400),
    'no key': (request(remove=('Sec-WebSocket-Key',)), 400),
    'version 8': (request(Sec_WebSocket_Version='8'), 426),
    'two hosts': (request(X='a\r\nHost: b'), 400),
    'POST': (request().replace(b'GET', b'POST'), 405),
    'a long line': (request(X='x' * 40_000), 431),
    'many lines': (request(X='\r\n'.join(['a', *['B: c'] * 300])), 431),
}


async def expect_close(peer: Peer, code: int, name: str) -> None:
    """The next frame that is no ping or pong is a Close, then comes the end.

    A reset may follow it, where the server has not read all.
    """
    got = await peer.close_frame()
    if got != code:
        raise Wrong(f'{name}: got Close {got}, expected {code}')
    peer.tally.ends[f'Close {code}'] += 1
    try:
        await peer.end()
    except ConnectionError:
        pass


async def broken(life: Life, path: str, data: bytes, code: int) -> None:
    async with life.dial() as peer:
        await peer.open(path)
        if random.random() < 0.5:
            await peer.echo(TEXT, b'harmless')
        peer.write(data)
        async with asyncio.timeout(GRACE + life.limits['close_timeout']):
            await expect_close(peer, code, repr(data[:40]))


@kind('hostile-frame', 15, '1002 limit', pause=0.5)
async def frame(life: Life) -> None:
    data = random.choice(list(BROKEN.values()))
    if random.random() < 0.3:
        data += random.randbytes(30_000)
    await broken(life, '/echo/hostile-frame', data, 1002)


@kind('hostile-utf8', 8, '1007 limit', pause=0.5)
async def utf8(life: Life) -> None:
    bad = random.choice(NOT_UTF8)
    data = pack(TEXT, bad)
    if random.random() < 0.5:
        data = pack(TEXT, b'fine', fin=False)
        data += b''.join(
            pack(CONTINUATION, bytes([b]), fin=False) for b in bad
        )
        data += pack(CONTINUATION)
    await broken(life, '/echo/hostile-utf8', data, 1007)


@kind('hostile-oversize', 4, '1009 limit')
async def oversize(life: Life) -> None:
    limit = life.limits['max_size']
    part = bytes(limit // 8)
    data = random.choice(
        (
            pack(BINARY, length=limit + 1),
            pack(BINARY, length=1 << 62),
            pack(BINARY, b'x', fin=False)
            + pack(CONTINUATION, length=limit, length_bytes=8),
            pack(BINARY, part, fin=False)
            + b''.join(pack(CONTINUATION, part, fin=False) for _ in range(8)),
        )
    )
    await broken(life, '/echo/hostile-oversize', data, 1009)


@kind('hostile-fragments', 1, '1008 limit', pause=10)
async def empty_fragments(life: Life) -> None:
    data = pack(TEXT, b'', fin=False)
    data += pack(CONTINUATION, b'', fin=False) * (FRAGMENTS + 1)
    await broken(life, '/echo/hostile-fragments', data, 1008)


@kind('hostile-bomb', 3, '1009 limit', pause=2)
async def bomb(life: Life) -> None:
    """A thousand times as much as it seems."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflater.compress(bytes(life.limits['max_size'] * 8))
    data += deflater.flush(zlib.Z_SYNC_FLUSH)
    async with life.dial() as peer:
        await peer.open(
            '/echo/hostile-bomb', 'permessage-deflate; client_max_window_bits'
        )
        peer.frame(TEXT, data[:-4], rsv=RSV1)
        async with asyncio.timeout(GRACE + life.limits['close_timeout']):
            await expect_close(peer, 1009, 'a bomb')


@kind('hostile-deflate', 3, '1007 limit')
async def garbage_deflate(life: Life) -> None:
    """What no deflate has written."""
    async with life.dial() as peer:
        await peer.open('/echo/hostile-deflate', 'permessage-deflate')
        peer.frame(BINARY, b'\xff' * 200, rsv=RSV1)
        async with asyncio.timeout(GRACE + life.limits['close_timeout']):
            await expect_close(peer, 1007, 'no deflate')


@kind('hostile-request', 8, '')
async def bad_request(life: Life) -> None:
    name = random.choice(list(REFUSED))
    data, expected = REFUSED[name]
    async with life.dial() as peer:
        peer.write(data)
        async with asyncio.timeout(GRACE + life.limits['open_timeout']):
            status, _ = await peer.head()
        if status != expected:
            raise Wrong(f'{name}: answered {status}, expected {expected}')
        peer.tally.ends[str(status)] += 1


@kind('hostile-tls', 6, '', pause=2)
async def bad_tls(life: Life) -> None:
    """Something else than TLS where TLS is expected."""
    data = random.choice(
        (
            request(),
            random.randbytes(2000),
            b'\x16\x03\x01\x00\x20' + random.randbytes(32),
            b'\x80' * 300,
        )
    )
    await until_cut(life, 'tls', data, life.limits['open_timeout'])


async def until_cut(life: Life, name: str, data: bytes, limit: float) -> None:
    """Say this, and nothing more, until the connection is cut off."""
    async with life.dial(name) as peer:
        peer.write(data)
        try:
            async with asyncio.timeout(limit + GRACE):
                while await peer.reader.read(1000):
                    pass  # an alert, or an answer
        except TimeoutError:
            raise Wrong(f'not cut off after {limit + GRACE} s') from None
        except GONE:
            pass
        peer.tally.ends['the end'] += 1


@kind('silent', 40, '', pause=0.5)
async def silent(life: Life) -> None:
    """Says nothing, or half a request, or half a hello."""
    secure = random.random() < 0.3
    data = random.choice((b'', b'GET / HT', request()[:-2]))
    if secure:
        data = random.choice((b'', HELLO[:30], b'\x16'))
    await until_cut(
        life, 'tls' if secure else 'plain', data, life.limits['open_timeout']
    )


KEEPALIVE = '1006 keepalive'


async def until_given_up(life: Life, peer: Peer) -> None:
    """The server's keepalive ends it: a ping, then Close 1011."""
    limit = life.limits['ping_interval'] * 1.25 + life.limits['ping_timeout']
    limit += life.limits['close_timeout'] + GRACE
    pings = 0
    try:
        async with asyncio.timeout(limit):
            while True:
                got = await peer.read_frame()
                if got.opcode == CLOSE:
                    break
                pings += got.opcode == PING
    except TimeoutError:
        raise Wrong(f'not given up after {limit} s') from None
    if pings != 1 or got.close_code != 1011:
        raise Wrong(f'got {pings} pings and {got}, expected one and 1011')
    peer.tally.ends['Close 1011'] += 1


@kind('silent-open', 15, KEEPALIVE)
async def silent_open(life: Life) -> None:
    """Does not answer pings."""
    secure = random.random() < 0.2
    async with life.dial('tls' if secure else 'plain', secure=secure) as peer:
        await peer.open('/echo/silent-open')
        await peer.echo(TEXT, b'the last word')
        await until_given_up(life, peer)


@kind('silent-frame', 10, KEEPALIVE)
async def silent_frame(life: Life) -> None:
    """Falls silent within a frame."""
    async with life.dial() as peer:
        await peer.open('/echo/silent-frame')
        peer.frame(TEXT, b'begun', length=random.choice((6, 60_000)))
        await until_given_up(life, peer)


@kind('hostile-dribble', 10, KEEPALIVE, exact=False)
async def dribble(life: Life) -> None:
    """A byte a second of one frame, without end."""
    async with life.dial() as peer:
        await peer.open('/echo/hostile-dribble')
        peer.frame(BINARY, b'', length=60_000)
        over = asyncio.ensure_future(until_given_up(life, peer))
        try:
            while not over.done():
                peer.write(b'x')
                await asyncio.wait({over}, timeout=1.0)
            await over
        finally:
            over.cancel()


@kind('hostile-pings', 2, KEEPALIVE, pause=3, exact=False)
async def pings(life: Life) -> None:
    """Pings without end, reads no pong."""
    limit = life.limits['ping_interval'] * 1.25 + life.limits['ping_timeout']
    limit += life.limits['close_timeout'] + GRACE
    async with life.dial(room=8192) as peer:
        await peer.open('/echo/hostile-pings')
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        flood = pack(PING, bytes(125)) * 200
        try:
            async with asyncio.timeout(limit):
                while True:
                    peer.write(flood)
                    await peer.writer.drain()
        except TimeoutError:
            peer.abort()
            raise Wrong(f'not cut off after {limit} s') from None
        except GONE:
            peer.tally.ends['a reset'] += 1


@kind('hostile-pings-read', 2)
async def pings_read(life: Life) -> None:
    """Many pings; the pongs come in order, and the last one comes."""
    async with life.dial() as peer:
        await peer.open('/echo/hostile-pings-read')
        for start in range(0, 2000, 500):
            for number in range(start, start + 500):
                peer.frame(PING, b'%06d' % number)
            last = -1
            while last < start + 499:
                got = await peer.next()
                if got.opcode != PONG or int(got.payload) <= last:
                    raise Wrong(f'got {got} after pong {last}')
                last = int(got.payload)
            await life.think(0.3)
        await peer.close()


@kind('cut-flood', 2, '1006 limit', pause=2, exact=False)
async def flood(life: Life) -> None:
    """Is sent messages without end and never reads them."""
    limit = life.limits['send_timeout'] + life.limits['close_timeout'] + GRACE
    async with life.dial(room=65536) as peer:
        await peer.open('/flood/cut-flood')
        peer.send(TEXT, b'go')
        await peer.message()
        transport = peer.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(life.limits['send_timeout'] * 1.5)
        transport.resume_reading()  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(limit):
                while await peer.reader.read(1 << 16):
                    pass
        except TimeoutError:
            raise Wrong(f'not cut off after {limit} s') from None
        except GONE:
            pass
        peer.tally.ends['the end'] += 1
