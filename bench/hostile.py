"""Measures what a hostile client costs a server and its other clients.

Starts a server for each attack, and prints how much its memory grew, how long
the echoes of others took meanwhile, and how the attacker was cut off, as
Markdown. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from suite.system import Failure
from support import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Running,
    connect,
    dial,
    frame,
    milliseconds,
    read_frame,
    serving,
    time_echoes,
    user_memory,
)

ATTACKER = '/attacker'  # the path that attackers ask for
OTHERS = 10  # clients that send echoes
HALF_OPEN = 300
FRAGMENTS = 1_000_000


def serve(patience: float) -> None:
    """The server's process; every time limit is `patience`.

    Prints how its clients ended that came as attackers, one JSON text a line.
    """
    import twspy

    class Server(twspy.Server):
        def onmessage(self, client, message):  # type: ignore[no-untyped-def]
            if message.payload == 'flood':
                block = twspy.BinaryMessage(bytes(65536))
                while True:
                    client.send(block)
            client.send(message)

        def onopen(self, client):  # type: ignore[no-untyped-def]
            client.hostile = client.sock.location == ATTACKER

        def onclose(self, client, message):  # type: ignore[no-untyped-def]
            if client.hostile:
                ending = {
                    'code': message.code,
                    'ended_by': message.ended_by,
                    'explanation': message.explanation,
                }
                print(json.dumps(ending), flush=True)

        def onerror(self, client, error):  # type: ignore[no-untyped-def]
            pass  # a flood that is cut off

    server = Server(
        ('127.0.0.1', 0),
        loglevel=logging.ERROR,
        open_timeout=patience,
        send_timeout=patience,
        ping_interval=patience,
        ping_timeout=patience,
    )
    print(server.address[1], flush=True)
    server.run()


# Attacks: each goes on until it is cut off, and returns what it saw of that.


def push(sock: socket.socket, data: bytes, pause: float = 0.0) -> str:
    """Send the same again and again; returns how it ended."""
    try:
        while True:
            sock.sendall(data)
            time.sleep(pause)
    except OSError as error:
        return type(error).__name__


def read_to_the_end(sock: socket.socket) -> str:
    """Read what is there, up to a Close frame or the end of the stream."""
    try:
        while True:
            opcode, payload = read_frame(sock)
            if opcode == CLOSE:
                return f'Close {int.from_bytes(payload[:2], "big")}'
    except EOFError:
        return 'the end'
    except OSError as error:
        return type(error).__name__


def never_read(port: int, seconds: float) -> str:
    with connect(port, path=ATTACKER) as sock:
        sock.sendall(frame(TEXT, b'flood'))
        time.sleep(seconds)
        return read_to_the_end(sock)


def dribble(port: int, seconds: float) -> str:
    with connect(port, path=ATTACKER) as sock:
        sock.sendall(frame(TEXT, bytes(60_000))[:8])
        return push(sock, b'x', 1.0)


def flood_pings(port: int, seconds: float) -> str:
    with connect(port, path=ATTACKER) as sock:
        sock.settimeout(None)
        return push(sock, frame(PING, bytes(125)) * 500)


def half_open(port: int, seconds: float) -> str:
    answers: Counter[str] = Counter()
    with ExitStack() as stack:
        socks = []
        for number in range(HALF_OPEN):
            sock = stack.enter_context(dial(port, number))
            sock.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n')
            socks.append(sock)
        for sock in socks:
            try:
                head = sock.recv(4096)
                words = head.split(maxsplit=2)
                answers[words[1].decode() if words else 'the end'] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
    return ', '.join(f'{n} x {what}' for what, n in answers.items())


def empty_fragments(port: int, seconds: float) -> str:
    batch = 10_000
    with connect(port, path=ATTACKER) as sock:
        sock.settimeout(None)
        try:
            sock.sendall(frame(TEXT, b'', final=False))
            for _ in range(FRAGMENTS // batch):
                sock.sendall(frame(CONTINUATION, b'', final=False) * batch)
        except OSError:
            pass  # cut off: the answer may still be there
        return read_to_the_end(sock)


ATTACKS: dict[str, Callable[[int, float], str]] = {
    'is flooded, never reads': never_read,
    'a byte a second of one frame': dribble,
    'floods pings, never reads': flood_pings,
    f'{HALF_OPEN} half-open handshakes': half_open,
    f'{FRAGMENTS:,} empty fragments': empty_fragments,
}


def attack(name: str, port: int, seconds: float, answer: Any) -> None:
    """The attacker's process: waits for a word, attacks, tells what it saw."""
    try:
        answer.recv()
        answer.send(ATTACKS[name](port, seconds))
    except (Failure, OSError, EOFError) as error:
        answer.send(repr(error))


# Measuring -------------------------------------------------------------------


class Watcher(threading.Thread):
    """Looks at the memory of a server now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.most = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, user_memory(self.pid))


class Endings(threading.Thread):
    """Reads what the server prints of its attackers."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self.stdout = server.process.stdout
        self.found: list[dict[str, Any]] = []

    def run(self) -> None:
        assert self.stdout is not None
        for line in self.stdout:
            self.found.append(json.loads(line))

    def __str__(self) -> str:
        texts = Counter(
            f'{e["code"]}, {e["ended_by"]}: {e["explanation"]}'
            for e in self.found
        )
        return '; '.join(texts) or 'nothing'


def measure(name: str, options: argparse.Namespace) -> str:
    """A row of the table."""
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(__file__, '--serve', '--patience', options.patience)
        )
        socks = [
            stack.enter_context(connect(server.port)) for _ in range(OTHERS)
        ]
        time_echoes(socks, 0.3)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(
            target=attack,
            args=(name, server.port, options.seconds, there),
            daemon=True,
        )
        process.start()
        endings, watcher = Endings(server), Watcher(server.pid)
        before = user_memory(server.pid)
        endings.start()
        watcher.start()
        taken = time_echoes(socks, options.seconds, lambda: here.send('go'))
        watcher.over.set()
        watcher.join()
        left = user_memory(server.pid) - before
        said = str(endings)
        seen = here.recv() if here.poll(1.0) else 'nothing yet'
        process.kill()
        process.join()
    grown = (watcher.most - before) / 2**20
    return (
        f'| {name} | {grown:.1f} | {left / 2**20:.1f} '
        f'| {milliseconds(taken)} | {said} | {seen} |'
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures what hostile clients cost.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--seconds', type=float, default=10.0, help='watched in each attack')
    add(
        '--patience',
        type=float,
        default=2.0,
        help="seconds: the server's open_timeout, send_timeout, "
        'ping_interval and ping_timeout',
    )
    add('--serve', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    if options.serve:
        serve(options.patience)
        return 0
    print(
        f'Time limits of {options.patience:g} s, watched for '
        f'{options.seconds:g} s; {OTHERS} other clients. Memory in MiB, '
        'echoes of others in ms.\n'
    )
    print(
        '| attacker | memory grew | and stayed | median | 99 % | maximum '
        '| onclose was told | the attacker saw |'
    )
    print('| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |')
    try:
        for name in ATTACKS:
            print(measure(name, options), flush=True)
    except (Failure, OSError, EOFError) as error:
        print(f'bench: {error!r}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
