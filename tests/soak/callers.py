"""The package's own blocking client, in many threads of one process.

    python callers.py SETTINGS      (a JSON text, see soak.py)

Answers each line of standard input with a line of JSON, as swarm.py does.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from peer import Tally, Wrong
from serve import heap_in_use

import twspy

COMPRESSIONS: dict[str, Callable[[], Any]] = {
    'takeover': lambda: twspy.DeflateMessage(),
    'alone': lambda: twspy.DeflateMessage(
        server_no_context_takeover=True, client_no_context_takeover=True
    ),
    'small': lambda: twspy.DeflateMessage(server_max_window_bits=9),
    'frame': lambda: twspy.DeflateFrame(),
}


class Callers:
    """What the threads share."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.ports = settings['ports']
        self.patience = float(settings['patience'])
        self.leave = threading.Event()
        self.lock = threading.Lock()
        self.tallies = {name: Tally() for name in LIVES}
        self.threads: list[threading.Thread] = []

    def url(self, path: str, name: str = 'plain', who: str = '') -> str:
        scheme = 'wss' if name == 'tls' else 'ws'
        host = 'localhost' if name == 'tls' else '127.0.0.1'
        return f'{scheme}://{who}{host}:{self.ports[name]}{path}'

    def connect(
        self, path: str, name: str = 'plain', who: str = '', **options: Any
    ) -> twspy.Connection:
        if name == 'tls':
            options['ssl_args'] = {'cafile': self.settings['cafile']}
        return twspy.connect(
            self.url(path, name, who),
            open_timeout=self.patience,
            proxy=None,
            **options,
        )

    def load(self) -> None:
        self.leave.clear()
        for name in LIVES:
            if self.settings['only'] and name not in self.settings['only']:
                continue
            thread = threading.Thread(
                target=self.slot, args=(name,), name=name, daemon=True
            )
            self.threads.append(thread)
            thread.start()

    def drain(self) -> None:
        self.leave.set()
        end = time.monotonic() + self.patience
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
            if thread.is_alive():
                self.tallies[thread.name].fail(
                    f'still there after {self.patience} s'
                )
        self.threads.clear()

    def slot(self, name: str) -> None:
        random.seed()
        tally = self.tallies[name]
        while not self.leave.is_set():
            tally.begun += 1
            try:
                LIVES[name](self, tally)
            except Exception as error:
                tally.fail(''.join(traceback.format_exception(error)))
            else:
                tally.done += 1
            self.leave.wait(random.uniform(0, 0.4))

    def report(self) -> dict[str, Any]:
        gc.collect()
        return {
            'heap': heap_in_use(),
            'blocks': sys.getallocatedblocks(),
            'kinds': {
                name: {
                    'begun': tally.begun,
                    'opened': tally.opened,
                    'done': tally.done,
                    'sent': tally.sent,
                    'received': tally.received,
                    'ends': dict(tally.ends),
                    'failures': tally.failures,
                }
                for name, tally in self.tallies.items()
            },
        }


def say(count: int = 0) -> str | bytes:
    count = count or random.choice((0, 1, 10, 125, 126, 3000, 70_000))
    if random.random() < 0.5:
        return random.randbytes(count)
    return ''.join(random.choices('abc dé—日🌍', k=count // 2))


def check(got: Any, expected: Any, tally: Tally) -> None:
    tally.received += 1
    if got != expected:
        raise Wrong(f'got {got!r:.300}, expected {expected!r:.300}')


def talk(connection: twspy.Connection, tally: Tally, callers: Callers) -> None:
    for _ in range(random.randint(1, 10)):
        batch = [say() for _ in range(random.choice((1, 1, 5)))]
        for message in batch:
            connection.send(message, random.choice((None, None, 1000)))
            tally.sent += 1
        for message in batch:
            check(connection.recv(callers.patience).payload, message, tally)
        callers.leave.wait(random.uniform(0, 0.3))


def echo(callers: Callers, tally: Tally) -> None:
    with callers.connect('/echo/our-echo') as connection:
        tally.opened += 1
        talk(connection, tally, callers)


def tls(callers: Callers, tally: Tally) -> None:
    with callers.connect('/echo/our-tls', 'tls') as connection:
        tally.opened += 1
        talk(connection, tally, callers)


def deflate(callers: Callers, tally: Tally) -> None:
    how = random.choice(list(COMPRESSIONS.values()))()
    with callers.connect(
        '/echo/our-deflate', random.choice(('plain', 'tls')), compression=how
    ) as connection:
        tally.opened += 1
        if len(connection.extensions) != 1:
            raise Wrong(f'no compression: {connection.extensions}')
        talk(connection, tally, callers)


def streams(callers: Callers, tally: Tally) -> None:
    with callers.connect('/stream/our-streams') as connection:
        tally.opened += 1
        digest = hashlib.sha256()
        connection.send('digest')
        with connection.send_stream() as out:
            for _ in range(random.randint(0, 40)):
                block = random.randbytes(1000) * 16
                digest.update(block)
                out.write(block)
        tally.sent += 2
        check(
            connection.recv(callers.patience).payload,
            digest.hexdigest(),
            tally,
        )
        count, seed = random.randint(1, 60), random.randrange(1 << 30)
        source = random.Random(seed)
        connection.send(f'source {count} {seed}')
        tally.sent += 1
        blocks = b''.join(source.randbytes(2048) * 8 for _ in range(count))
        chunks = list(connection.recv_stream(callers.patience))
        check(b''.join(chunks), blocks, tally)


def handlers(callers: Callers, tally: Tally) -> None:
    """A subclass with handlers, until it closes."""
    left = [say() for _ in range(5)]

    class Talker(twspy.Connection):
        def onmessage(self, message: Any) -> None:
            check(message.payload, left.pop(0), tally)
            if left:
                self.ask()
            else:
                self.close(1000, 'all said')

        def ask(self) -> None:
            tally.sent += 1
            self.send(left[0])

    connection = callers.connect('/echo/our-handlers', connection_class=Talker)
    tally.opened += 1
    connection.ask()
    connection.receive_forever()
    if left:
        raise Wrong(f'closed with {len(left)} to say')


def frames(callers: Callers, tally: Tally) -> None:
    """The websocket type: frames instead of messages."""
    with twspy.websocket(location='/echo/our-frames') as sock:
        sock.settimeout(callers.patience)
        sock.connect(('127.0.0.1', callers.ports['plain']))
        tally.opened += 1
        for _ in range(5):
            payload = say(2000)
            opcode = (
                twspy.OPCODE_TEXT
                if isinstance(payload, str)
                else twspy.OPCODE_BINARY
            )
            whole = twspy.Frame(opcode, payload)
            sock.send(*whole.fragment(300))
            tally.sent += 1
            got = sock.recv()
            while got.opcode == twspy.OPCODE_PING:
                sock.send(twspy.Frame(twspy.OPCODE_PONG, got.payload))
                got = sock.recv()
            check((got.opcode, got.payload), (opcode, whole.payload), tally)
        sock.send(twspy.CloseMessage(1000, 'bye').frame())
        frame = sock.recv()
        if frame.opcode != twspy.OPCODE_CLOSE:
            raise Wrong(f'got {frame}, expected a Close')


def quiet(callers: Callers, tally: Tally) -> None:
    """Long without a word: the keeper answers pings meanwhile."""
    with callers.connect('/echo/our-quiet') as connection:
        tally.opened += 1
        limits = callers.settings['limits']
        callers.leave.wait(limits['ping_interval'] + limits['ping_timeout'])
        connection.send('still there')
        tally.sent += 1
        check(connection.recv(callers.patience).payload, 'still there', tally)


def users(callers: Callers, tally: Tally) -> None:
    name = random.choice(('basic', 'digest'))
    with callers.connect('/who/our-users', name, 'soak:pass%20word@') as conn:
        tally.opened += 1
        check(conn.recv(callers.patience).payload, 'soak', tally)
    try:
        callers.connect('/who/our-users', name, 'soak:wrong@').close()
    except twspy.HandshakeError as error:
        if error.status != 401:
            raise
        tally.ends['401'] += 1
    else:
        raise Wrong('a wrong password was good')


def closed(callers: Callers, tally: Tally) -> None:
    """The server closes."""
    with callers.connect('/close/our-closed') as connection:
        tally.opened += 1
        connection.send('4002 go')
        tally.sent += 1
        try:
            message = connection.recv(callers.patience)
        except twspy.SocketClosed as error:
            if error.code != 4002:
                raise
            tally.ends['Close 4002'] += 1
        else:
            raise Wrong(f'got {message}, expected Close 4002')


def dropped(callers: Callers, tally: Tally) -> None:
    """Nobody closes: the object goes, and its descriptor with it."""
    sock = twspy.websocket(location='/echo/cut-ours')
    sock.settimeout(callers.patience)
    sock.connect(('127.0.0.1', callers.ports['plain']))
    tally.opened += 1
    sock.close()


LIVES: dict[str, Callable[[Callers, Tally], None]] = {
    'our-echo': echo,
    'our-tls': tls,
    'our-deflate': deflate,
    'our-streams': streams,
    'our-handlers': handlers,
    'our-frames': frames,
    'our-quiet': quiet,
    'our-users': users,
    'our-closed': closed,
    'cut-ours': dropped,
}


def main() -> int:
    logging.basicConfig(level=logging.WARNING)
    callers = Callers(json.loads(sys.argv[1]))
    for line in sys.stdin:
        if line.strip() == 'load':
            callers.load()
        elif line.strip() in ('drain', 'leave'):
            callers.drain()
        print(json.dumps(callers.report()), flush=True)
    callers.drain()
    return 0


if __name__ == '__main__':
    sys.exit(main())
