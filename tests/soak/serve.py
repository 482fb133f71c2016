"""The server of the soak: three listeners in one process, whose handlers do
what the path of a client asks for, and count.

    python serve.py SETTINGS      (a JSON text, see soak.py)

Prints its ports, then answers each line of standard input with a line of JSON:
`report` with what was counted, `quit` with the same once all has stopped.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from typing import Any

import twspy

CHUNK = 16384
MEMORY_FIELDS = (
    'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks '
    'keepcost'
).split()
PASSWORDS = {'soak': 'pass word', 'gr\u00fcn': '\u00df' * 20}
ONE_IN = 211  # of the messages: those that the plant 'lost' loses


class Deliberate(Exception):
    """What a handler raises because it was asked to."""


class MallInfo2(ctypes.Structure):
    """mallinfo(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in MEMORY_FIELDS]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallInfo2
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)


def heap_in_use() -> int:
    """Bytes that C has allocated, in all arenas, and not freed."""
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Kind:
    """What was counted of the clients of a kind that are gone."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.received = 0
        self.sent = 0
        self.endings: Counter[str] = Counter()


class State:
    """What the listeners share."""

    def __init__(self, plant: str) -> None:
        self.plant = plant
        self.lock = threading.Lock()
        self.kinds: dict[str, Kind] = {}
        self.rooms: dict[str, set[Any]] = {}
        self.listeners: set[Any] = set()
        self.deliberate = 0
        self.skipped = 0
        self.ticks = 0
        self.unexpected: list[str] = []
        self.leaked: list[int] = []

    def kind(self, name: str) -> Kind:
        """The lock is held."""
        if name not in self.kinds:
            self.kinds[name] = Kind()
        return self.kinds[name]

    def blame(self, text: str) -> None:
        """Something that must not happen."""
        with self.lock:
            if len(self.unexpected) < 20:
                self.unexpected.append(text)


class Records(logging.Handler):
    """A log record of a warning or worse is unexpected."""

    def __init__(self, state: State) -> None:
        super().__init__(logging.WARNING)
        self.state = state

    def emit(self, record: logging.LogRecord) -> None:
        self.state.blame(f'logged: {self.format(record)}')


class Soak(twspy.Server):
    """A client's path is /what/kind, or /what/kind/argument."""

    state: State

    def onopen(self, client: Any) -> None:
        what, kind, *rest = client.sock.location[1:].split('/')
        client.what, client.kind = what, kind
        client.argument = rest[0] if rest else ''
        client.received = client.sent = 0
        client.act = getattr(self, f'on_{what}')
        with self.state.lock:
            self.state.kind(kind).opened += 1
            if what == 'listen':
                # The next tick comes after this.
                self.say(client, f'from {self.state.ticks}')
                self.state.listeners.add(client)
            elif what == 'room':
                members = self.state.rooms.setdefault(client.argument, set())
                members.add(client)
        if what == 'room':
            self.say(client, 'in')
        elif what == 'who':
            self.say(client, client.username)

    def onmessage(self, client: Any, message: Any) -> None:
        client.received += 1
        if self.state.plant == 'lost' and random.randrange(ONE_IN) == 0:
            return
        client.act(client, message)

    def onclose(self, client: Any, message: Any) -> None:
        state = self.state
        with state.lock:
            kind = state.kind(client.kind)
            kind.closed += 1
            kind.received += client.received
            kind.sent += client.sent
            kind.endings[f'{message.code} {message.ended_by}'] += 1
            state.listeners.discard(client)
            if client.what == 'room':
                members = state.rooms[client.argument]
                members.discard(client)
                if not members:
                    del state.rooms[client.argument]
        client.act = None
        if state.plant == 'leak':
            libc.memset(libc.malloc(100), 1, 100)
        elif state.plant == 'descriptor' and random.randrange(500) == 0:
            state.leaked.append(os.dup(0))

    def onerror(self, client: Any, error: Exception) -> None:
        kind = getattr(client, 'kind', None)
        if isinstance(error, Deliberate):
            with self.state.lock:
                self.state.deliberate += 1
            return
        # These go while a handler is at work for them.
        if isinstance(error, twspy.SocketClosed) and str(kind).startswith(
            ('cut-', 'hostile-')
        ):
            return
        text = ''.join(traceback.format_exception(error))
        self.state.blame(f'onerror, client of kind {kind}: {text}')

    def say(self, client: Any, message: Any) -> None:
        """Send, and count it."""
        client.send(message)
        client.sent += 1

    # What a path asks for.

    def on_echo(self, client: Any, message: Any) -> None:
        self.say(client, message)

    on_who = on_echo
    on_listen = on_echo

    def on_room(self, client: Any, message: Any) -> None:
        with self.state.lock:
            members = list(self.state.rooms[client.argument])
        count = self.broadcast(message, to=members)
        with self.state.lock:
            self.state.skipped += len(members) - count
        client.sent += count

    def on_stream(self, client: Any, message: Any) -> None:
        what, _, rest = message.payload.partition(' ')
        if what == 'digest':
            digest = hashlib.sha256()
            for chunk in client.recv_stream():
                digest.update(chunk)
            client.received += 1
            self.say(client, digest.hexdigest())
            return
        count, seed = map(int, rest.split())
        source = random.Random(seed)
        with client.send_stream() as out:
            for _ in range(count):
                out.write(source.randbytes(CHUNK // 8) * 8)
        client.sent += 1

    def on_burst(self, client: Any, message: Any) -> None:
        count, size = map(int, message.payload.split())
        for number in range(count):
            block = number.to_bytes(4, 'big') * (size // 4)
            self.say(client, twspy.BinaryMessage(block))

    def on_flood(self, client: Any, message: Any) -> None:
        block = twspy.BinaryMessage(bytes(CHUNK))
        while True:
            self.say(client, block)

    def on_slow(self, client: Any, message: Any) -> None:
        time.sleep(0.02)
        self.say(client, message)

    def on_raise(self, client: Any, message: Any) -> None:
        if message.payload == 'raise':
            raise Deliberate(message.payload)
        self.say(client, message)

    def on_ask(self, client: Any, message: Any) -> None:
        self.say(client, f'what about {message.payload}?')
        answer = client.recv()
        client.received += 1
        self.say(client, answer)

    def on_close(self, client: Any, message: Any) -> None:
        code, _, reason = message.payload.partition(' ')
        client.close(int(code), reason)


def tick(state: State, server: Soak, over: threading.Event) -> None:
    """Broadcasts a number to all listeners, a few times a second."""
    while not over.wait(0.25):
        with state.lock:
            state.ticks += 1
            server.broadcast(f'tick {state.ticks}', to=list(state.listeners))


def name_of(kind: type) -> str:
    return f'{kind.__module__}.{kind.__qualname__}'


def report(state: State, servers: dict[str, Soak]) -> dict[str, Any]:
    """What is known now. The memory is that before the report is made."""
    garbage = gc.collect()
    blocks = sys.getallocatedblocks()
    types = Counter(name_of(type(thing)) for thing in gc.get_objects())
    heap = heap_in_use()
    with state.lock:
        kinds = {
            name: {
                'opened': kind.opened,
                'closed': kind.closed,
                'received': kind.received,
                'sent': kind.sent,
                'endings': dict(kind.endings),
            }
            for name, kind in state.kinds.items()
        }
        for server in servers.values():
            for client in server.clients:
                if hasattr(client, 'kind'):
                    kinds[client.kind]['received'] += client.received
                    kinds[client.kind]['sent'] += client.sent
        return {
            'clients': sum(len(s.clients) for s in servers.values()),
            'stats': {name: s.stats() for name, s in servers.items()},
            'kinds': kinds,
            'deliberate': state.deliberate,
            'skipped': state.skipped,
            'rooms': len(state.rooms),
            'unexpected': list(state.unexpected),
            'heap': heap,
            'blocks': blocks,
            'garbage': garbage,
            'types': types,
        }


def make(settings: dict[str, Any], state: State) -> dict[str, Soak]:
    """The listeners, by name."""
    options = dict(settings['limits'])
    if state.plant == 'spared':
        options['ping_timeout'] = None
    compression = [
        twspy.DeflateMessage(),
        twspy.DeflateFrame(),
        twspy.WebkitDeflateFrame(),
    ]
    here = ('127.0.0.1', 0)
    kind = type('Soak', (Soak,), {'state': state})
    return {
        'plain': kind(
            here, loglevel=logging.WARNING, compression=compression, **options
        ),
        'tls': kind(
            here,
            loglevel=logging.WARNING,
            ssl_args=settings['tls'],
            compression=compression,
            **options,
        ),
        'basic': kind(
            here,
            loglevel=logging.WARNING,
            auth=twspy.BasicAuth(lambda u, p: PASSWORDS.get(u) == p),
            **options,
        ),
        'digest': kind(
            here,
            loglevel=logging.WARNING,
            auth=twspy.DigestAuth(PASSWORDS.get),
            **options,
        ),
    }


def main() -> int:
    settings = json.loads(sys.argv[1])
    state = State(settings.get('plant', ''))
    logging.getLogger().addHandler(Records(state))
    servers = make(settings, state)
    for server in servers.values():
        server.start()
    over = threading.Event()
    ticker = threading.Thread(
        target=tick, args=(state, servers['plain'], over), name='ticker'
    )
    ticker.start()
    ports = {name: server.address[1] for name, server in servers.items()}
    print(json.dumps(ports), flush=True)
    for line in sys.stdin:
        if line.strip() == 'quit':
            break
        if line.strip() == 'clients':
            count = sum(len(s.clients) for s in servers.values())
            print(json.dumps({'clients': count}), flush=True)
        else:
            print(json.dumps(report(state, servers)), flush=True)
    over.set()
    ticker.join()
    for server in servers.values():
        server.stop()
    print(json.dumps(report(state, servers)), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
