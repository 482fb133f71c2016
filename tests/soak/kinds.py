"""Clients that keep to the rules: what each kind does in a life."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from credentials import basic, challenges, digest
from peer import Peer, Place, Tally, Wrong, dial
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

ROOM_MEMBERS = 5
CHUNK = 16384  # as in serve.py
WORDS = 'lorem ipsum dolor sit amet, größer — 日本語 🌍 '.split()
OFFERS = {
    'deflate': 'permessage-deflate; client_max_window_bits',
    'deflate-alone': 'permessage-deflate; client_no_context_takeover; '
    'server_no_context_takeover',
    'deflate-we-alone': 'permessage-deflate; client_no_context_takeover',
    'deflate-it-alone': 'permessage-deflate; server_no_context_takeover',
    'deflate-small': 'permessage-deflate; server_max_window_bits=9; '
    'client_max_window_bits=9',
    'deflate-10': 'permessage-deflate; server_max_window_bits=10; '
    'server_no_context_takeover',
    'deflate-frame': 'deflate-frame; max_window_bits=11',
    'deflate-webkit': 'x-webkit-deflate-frame; no_context_takeover',
}


class Life:
    """One life of a client.

    leave: set when the load is to end
    """

    pace = 1.0  # grows when this process is late

    def __init__(
        self, kind: str, place: Place, tally: Tally, leave: asyncio.Event
    ) -> None:
        self.kind = kind
        self.place = place
        self.tally = tally
        self.leave = leave
        self.limits = place.limits
        self.spread = self.limits['ping_interval'] * 2

    def dial(
        self, name: str = 'plain', *, secure: bool = False, room: int = 0
    ) -> contextlib.AbstractAsyncContextManager[Peer]:
        return dial(self.place, self.tally, name, secure=secure, room=room)

    async def rest(self, most: float) -> None:
        """Do nothing for a while, or until the load is to end."""
        with contextlib.suppress(TimeoutError):
            seconds = random.uniform(0, most * Life.pace)
            await asyncio.wait_for(self.leave.wait(), seconds)

    async def think(self, most: float) -> None:
        """Do nothing for a while, which is short enough that a ping can wait
        for its answer; shorter still where the load is to end."""
        if not self.leave.is_set():
            longest = self.limits['ping_interval'] / Life.pace
            await self.rest(min(most, longest))


class Kind(NamedTuple):
    """slots: how many of them live at a time, in one process of a full load
    pause: seconds, at most, from the end of a life to the next one
    live: a life
    ends: how the server may say that they have ended: code and by whom
    exact: whether each message has to arrive, in both directions
    """

    slots: int
    pause: float
    live: Callable[[Life], Awaitable[None]]
    ends: frozenset[str]
    exact: bool


KINDS: dict[str, Kind] = {}

Live = Callable[[Life], Awaitable[None]]


def kind(
    name: str,
    slots: int,
    ends: str = '1000 peer',
    *,
    pause: float = 1.0,
    exact: bool = True,
) -> Callable[[Live], Live]:
    """Names what a function does; `ends` has commas between them."""

    def add(live: Live) -> Live:
        allowed = frozenset(ends.split(', ')) - {''}
        KINDS[name] = Kind(slots, pause, live, allowed, exact)
        return live

    return add


def text() -> bytes:
    """Some text, mostly short."""
    count = random.choice((0, 1, 3, 10, 10, 30, 30, 300))
    return ' '.join(random.choices(WORDS, k=count)).encode()


def binary() -> bytes:
    return random.randbytes(random.choice((0, 1, 60, 125, 126, 4000, 66000)))


def something() -> tuple[int, bytes]:
    if random.random() < 0.8:
        return TEXT, text()
    return BINARY, binary()


async def talk(life: Life, peer: Peer, rounds: int = 8) -> None:
    """Echoes, several of them on their way at a time."""
    for _ in range(random.randint(1, rounds)):
        batch = [something() for _ in range(random.choice((1, 1, 4, 16)))]
        for opcode, payload in batch:
            peer.send(opcode, payload)
        await peer.writer.drain()
        for opcode, payload in batch:
            await peer.expect(opcode, payload)
        await life.think(0.6)


@kind('idle', 1000)
async def idle(life: Life) -> None:
    """Connects, answers pings, sends one message and leaves."""
    async with life.dial() as peer:
        await peer.open('/echo/idle')
        frame = asyncio.ensure_future(peer.next())
        leaving = asyncio.ensure_future(life.leave.wait())
        try:
            await asyncio.wait(
                {frame, leaving},
                timeout=random.uniform(4, 30) * Life.pace,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if life.leave.is_set():  # all at once would be too much
                await asyncio.sleep(random.uniform(0, life.spread))
            payload = text()
            peer.send(TEXT, payload)
            got = await frame
            peer.tally.received += 1
            if got[:3] != (TEXT, payload, True):
                raise Wrong(f'got {got!r:.300}, expected {payload!r:.300}')
            await peer.close()
        finally:
            frame.cancel()
            leaving.cancel()


@kind('echo', 30, pause=0.5)
async def echo(life: Life) -> None:
    async with life.dial() as peer:
        await peer.open('/echo/echo')
        await talk(life, peer)
        await peer.close(1000, 'done')


@kind('tls', 20, pause=2)
async def tls(life: Life) -> None:
    async with life.dial('tls', secure=True) as peer:
        await peer.open('/echo/tls')
        await talk(life, peer, 20)
        await peer.close()


@kind('tls-idle', 60, pause=2)
async def tls_idle(life: Life) -> None:
    async with life.dial('tls', secure=True) as peer:
        await peer.open('/echo/tls-idle')
        await life.think(life.limits['ping_interval'] * 0.6)
        await peer.echo(TEXT, text())
        await life.think(life.limits['ping_interval'] * 0.6)
        await peer.close()


def deflating(name: str, secure: bool) -> Live:
    async def live(life: Life) -> None:
        async with life.dial(
            'tls' if secure else 'plain', secure=secure
        ) as peer:
            await peer.open(f'/echo/{name}', OFFERS[name])
            await talk(life, peer, 12)
            await peer.echo(TEXT, text() * 20, parts=7)
            await peer.close()

    return live


for name in OFFERS:
    kind(name, 4)(deflating(name, secure=name == 'deflate-alone'))


@kind('fragments', 10)
async def fragments(life: Life) -> None:
    """Messages in pieces, with pings between them."""
    async with life.dial() as peer:
        await peer.open('/echo/fragments')
        for _ in range(random.randint(1, 6)):
            payload = text() * 3
            peer.tally.sent += 1
            cut = sorted(random.choices(range(len(payload) + 1), k=5))
            pieces = [
                payload[a:b]
                for a, b in itertools.pairwise([0, *cut, len(payload)])
            ]
            for number, piece in enumerate(pieces):
                peer.frame(
                    CONTINUATION if number else TEXT,
                    piece,
                    fin=number == len(pieces) - 1,
                )
                if number == 2:
                    peer.frame(PING, b'between')
                    frame = await peer.next()
                    if frame[:2] != (PONG, b'between'):
                        raise Wrong(f'got {frame}, expected a pong')
            await peer.expect(TEXT, payload)
            await life.think(0.5)
        await peer.close()


@kind('slow-reader', 6)
async def slow_reader(life: Life) -> None:
    """Reads what is much more than the queue holds, slowly."""
    count, size = 40, 32768
    async with life.dial(room=65536) as peer:
        await peer.open('/burst/slow-reader')
        peer.send(TEXT, f'{count} {size}'.encode())
        for number in range(count):
            if number % 8 == 0:
                await asyncio.sleep(life.limits['send_timeout'] / 12)
            block = number.to_bytes(4, 'big') * (size // 4)
            await peer.expect(BINARY, block)
        await peer.close()


@kind('slow-writer', 20)
async def slow_writer(life: Life) -> None:
    """Its head and then a frame come a few bytes at a time."""

    async def drip(data: bytes, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin, sent = loop.time(), 0
        while sent < len(data):
            await asyncio.sleep(seconds / 30)
            gone = (loop.time() - begin) / seconds
            due = max(sent + 1, int(len(data) * gone))
            peer.write(data[sent:due])
            sent = due

    async with life.dial() as peer:
        key = base64.b64encode(random.randbytes(16)).decode()
        head = request('/echo/slow-writer', key=key)
        await drip(head, life.limits['open_timeout'] * 0.4)
        status, _ = await peer.head()
        if status != 101:
            raise Wrong(f'answered {status}, expected 101')
        peer.tally.opened += 1
        payload = text()
        peer.tally.sent += 1
        frame = pack(TEXT, payload)
        await drip(frame, life.limits['ping_interval'] * 0.5)
        await peer.expect(TEXT, payload)
        await peer.close()


@kind('stream-up', 4, pause=3)
async def stream_up(life: Life) -> None:
    """A message above max_size, which the server takes in pieces."""
    async with life.dial() as peer:
        await peer.open('/stream/stream-up')
        for _ in range(3):
            peer.send(TEXT, b'digest')
            data = random.randbytes(1024) * random.randint(1, 1000)
            peer.send(BINARY, data, random.randint(1, 60))
            await peer.writer.drain()
            expected = hashlib.sha256(data).hexdigest().encode()
            await peer.expect(TEXT, expected)
            await life.think(0.5)
        await peer.close()


@kind('stream-down', 4, pause=3)
async def stream_down(life: Life) -> None:
    secure = random.random() < 0.5
    async with life.dial('tls' if secure else 'plain', secure=secure) as peer:
        await peer.open('/stream/stream-down')
        for _ in range(3):
            count, seed = random.randint(1, 60), random.randrange(1 << 30)
            source = random.Random(seed)
            blocks = [source.randbytes(CHUNK // 8) * 8 for _ in range(count)]
            peer.send(TEXT, f'source {count} {seed}'.encode())
            await peer.expect(BINARY, b''.join(blocks))
            await life.think(0.5)
        await peer.close()


@kind('room', 3)
async def room(life: Life) -> None:
    """Some clients in a room of their own, where each hears each."""
    name = random.randbytes(8).hex()
    rounds = 10
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for _ in range(ROOM_MEMBERS):
            peer = await stack.enter_async_context(life.dial())
            await peer.open(f'/room/room/{name}')
            await peer.expect(TEXT, b'in')
            peers.append(peer)
        for number in range(rounds):
            for who, peer in enumerate(peers):
                peer.send(TEXT, f'{who} {number} {name}'.encode())
            await life.think(0.2)

        async def listen(peer: Peer) -> None:
            heard = [0] * ROOM_MEMBERS
            while sum(heard) < ROOM_MEMBERS * rounds:
                _, payload = await peer.message()
                who, number, same = payload.decode().split()
                if int(number) != heard[int(who)] or same != name:
                    raise Wrong(f'heard {payload!r} after {heard}')
                heard[int(who)] += 1

        await asyncio.gather(*map(listen, peers))
        for peer in peers:
            await peer.close()


@kind('cohort', 20)
async def cohort(life: Life) -> None:
    """Stays to the end; hears every tick, and gets its echoes."""
    async with life.dial() as peer:
        await peer.open('/listen/cohort', OFFERS['deflate'])
        opcode, first = await peer.message()
        tick = int(first.decode().removeprefix('from '))
        mine = 0
        heard = True
        while not life.leave.is_set() or not heard:
            opcode, payload = await peer.message()
            if payload.startswith(b'mine'):
                if payload != f'mine {mine}'.encode() or heard:
                    raise Wrong(f'got {payload!r}, expected mine {mine}')
                heard = True
                continue
            peer.tally.received -= 1  # ticks are counted by number
            tick += 1
            if (opcode, payload) != (TEXT, f'tick {tick}'.encode()):
                raise Wrong(f'got {payload!r}, expected tick {tick}')
            if heard and random.random() < 0.3 and not life.leave.is_set():
                mine += 1
                heard = False
                peer.send(TEXT, f'mine {mine}'.encode())
        peer.frame(CLOSE, close_payload(1000))
        while (await peer.next()).opcode != CLOSE:
            pass  # a last tick
        await peer.end()


@kind('asked', 4)
async def asked(life: Life) -> None:
    """The handler receives, too."""
    async with life.dial() as peer:
        await peer.open('/ask/asked')
        for number in range(5):
            peer.send(TEXT, f'{number}'.encode())
            await peer.expect(TEXT, f'what about {number}?'.encode())
            await life.think(0.3)
            await peer.echo(BINARY, bytes(number))
        await peer.close()


@kind('slow-handler', 4)
async def slow_handler(life: Life) -> None:
    async with life.dial() as peer:
        await peer.open('/slow/slow-handler')
        await talk(life, peer, 3)
        await peer.close()


@kind('raiser', 3)
async def raiser(life: Life) -> None:
    """A handler's exception is not the client's problem."""
    async with life.dial() as peer:
        await peer.open('/raise/raiser')
        for _ in range(5):
            peer.send(TEXT, b'raise')
            await peer.echo(TEXT, text())
            await life.think(0.5)
        await peer.close()


@kind('basic', 6, pause=2)
async def basic_auth(life: Life) -> None:
    async with life.dial('basic') as peer:
        await peer.open('/who/basic', Authorization=basic('soak', 'pass word'))
        await peer.expect(TEXT, b'soak')
        await talk(life, peer, 3)
        await peer.close()


@kind('digest', 6, pause=2)
async def digest_auth(life: Life) -> None:
    path = '/who/digest'
    async with life.dial('digest') as peer:
        peer.write(request(path))
        status, head = await peer.head()
        if status != 401:
            raise Wrong(f'answered {status}, expected 401')
    asked = challenges(head['www-authenticate'].split('\n'))
    challenge = random.choice(list(asked.values()))
    async with life.dial('digest') as peer:
        field = digest(challenge, 'soak', 'pass word', uri=path)
        await peer.open(path, Authorization=field)
        await peer.expect(TEXT, b'soak')
        await talk(life, peer, 3)
        await peer.close()
    async with life.dial('digest') as peer:  # good once
        peer.write(request(path, Authorization=field))
        status = await peer.refusal()
        if status != 401:
            raise Wrong(f'answered {status} to a copy, expected 401')


@kind('wrong-password', 4, '', pause=2)
async def wrong_password(life: Life) -> None:
    scheme = random.choice(('basic', 'digest'))
    async with life.dial(scheme) as peer:
        field = basic('soak', 'password')
        peer.write(request('/who/wrong-password', Authorization=field))
        status = await peer.refusal()
        if status != 401:
            raise Wrong(f'answered {status}, expected 401')


@kind('plain-http', 3, '', pause=2)
async def plain_http(life: Life) -> None:
    async with life.dial() as peer:
        peer.write(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        status = await peer.refusal()
        if status != 426:
            raise Wrong(f'answered {status}, expected 426')


# How connections end


@kind('closed', 6, '4001 us')
async def closed(life: Life) -> None:
    """The server closes."""
    async with life.dial() as peer:
        await peer.open('/close/closed')
        peer.send(TEXT, b'4001 enough')
        frame = await peer.next()
        if frame[:2] != (CLOSE, close_payload(4001, 'enough')):
            raise Wrong(f'got {frame}, expected Close 4001')
        peer.frame(CLOSE, frame.payload)
        await peer.end()


@kind('closed-both', 6, '4001 us, 4001 peer, 3000 us, 3000 peer')
async def closed_both(life: Life) -> None:
    """Both close at the same time."""
    async with life.dial() as peer:
        await peer.open('/close/closed-both')
        peer.send(TEXT, b'4001 enough')
        peer.frame(CLOSE, close_payload(3000))
        code = await peer.close_frame()
        if code not in (3000, 4001):
            raise Wrong(f'got Close {code}, expected 3000 or 4001')
        await peer.end()


@kind('close-unanswered', 3, '4001 us, 1006 us')
async def close_unanswered(life: Life) -> None:
    """The server closes, the client does not answer."""
    async with life.dial() as peer:
        await peer.open('/close/close-unanswered')
        peer.send(TEXT, b'4001 enough')
        code = await peer.close_frame()
        if code != 4001:
            raise Wrong(f'got Close {code}, expected 4001')
        async with asyncio.timeout(life.limits['close_timeout'] + 10):
            await peer.end()


@kind('close-bare', 4, '1005 peer')
async def close_bare(life: Life) -> None:
    async with life.dial() as peer:
        await peer.open('/echo/close-bare')
        await peer.echo(TEXT, text())
        peer.frame(CLOSE)
        frame = await peer.next()
        if frame[:2] != (CLOSE, b''):
            raise Wrong(f'got {frame}, expected an empty Close')
        await peer.end()


CUT = '1006 network, 1006 peer'


@kind('cut-vanish', 5, CUT, exact=False)
async def vanish(life: Life) -> None:
    """Ends without a Close."""
    async with life.dial() as peer:
        await peer.open('/echo/cut-vanish')
        await talk(life, peer, 3)


@kind('cut-reset', 5, CUT, exact=False)
async def reset(life: Life) -> None:
    secure = random.random() < 0.3
    async with life.dial('tls' if secure else 'plain', secure=secure) as peer:
        await peer.open('/echo/cut-reset')
        await talk(life, peer, 3)
        peer.abort()


@kind('cut-within', 5, CUT, exact=False)
async def within(life: Life) -> None:
    """A reset within a frame."""
    async with life.dial() as peer:
        await peer.open('/echo/cut-within')
        peer.frame(TEXT, b'begun', length=random.choice((6, 60000)))
        await life.think(0.5)
        peer.abort()


@kind('cut-echoes', 5, CUT, exact=False)
async def echoes(life: Life) -> None:
    """A reset with echoes on their way."""
    async with life.dial() as peer:
        await peer.open('/echo/cut-echoes')
        for _ in range(40):
            peer.send(*something())
        await asyncio.sleep(random.uniform(0, 0.05))
        peer.abort()


@kind('cut-burst', 3, CUT, exact=False)
async def cut_burst(life: Life) -> None:
    """A reset while a handler waits for room."""
    async with life.dial(room=8192) as peer:
        await peer.open('/burst/cut-burst')
        peer.send(TEXT, b'200 32768')
        await peer.message()
        await asyncio.sleep(random.uniform(0, life.limits['send_timeout'] / 3))
        peer.abort()


@kind('cut-handshake', 5, CUT, exact=False)
async def cut_handshake(life: Life) -> None:
    """A reset within or right after the request."""
    head = request('/echo/cut-handshake')
    async with life.dial() as peer:
        peer.write(head[: random.choice((1, 40, len(head)))])
        await asyncio.sleep(random.choice((0, 0, 0.001, 0.1)))
        peer.abort()


@kind('cut-tls', 3, CUT, pause=2, exact=False)
async def cut_tls(life: Life) -> None:
    """Leaves amid TLS's handshake."""
    async with life.dial('tls') as peer:
        peer.write(HELLO[: random.randrange(1, len(HELLO))])
        await asyncio.sleep(random.choice((0, 0.1)))
        if random.random() < 0.5:
            peer.abort()


HELLO = bytes.fromhex(
    '16030100f1010000ed0303'
    + '5a' * 32
    + '20'
    + 'a5' * 32
    + '0004130113020100'
)
