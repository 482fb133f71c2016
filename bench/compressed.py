"""Measures echo servers that compress: messages a second, processor time, and
memory of connections that are idle.

Servers take turns, on a core of their own, and the load is on another. Prints
medians and ratios as Markdown. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import base64
import random
import select
import sys
import time
import zlib
from contextlib import ExitStack
from importlib.metadata import version
from statistics import median
from typing import NamedTuple

from deflate import chat
from suite.system import BENCH, Failure
from support import (
    CLOSE,
    Running,
    dial,
    frame,
    processor_time,
    raise_file_limit,
    serving,
    take_last_core,
    user_memory,
)

TAIL = b'\x00\x00\xff\xff'
TEXT = 0x81  # final, text
DEFLATED = 0xC1  # the same with RSV1
REST = 12.0  # seconds before memory is read: keepalive looks twice
WARM_UP = 50  # connections before those that count
MANY = 100  # messages that use all of a context


class Setting(NamedTuple):
    """A server with what it is told; `offer` is the client's."""

    title: str
    program: str
    words: tuple[str, ...]
    offer: str = (
        'permessage-deflate; server_max_window_bits=12; client_max_window_bits'
    )


FULL = 'permessage-deflate; client_max_window_bits'
TWSPY, WEBSOCKETS, AIOHTTP = (
    f'{name}_deflate.py' for name in ('twspy', 'websockets', 'aiohttp')
)
# What is compared with each other stands together, twspy first.
ECHOES = {
    'window 12, mem_level 5, level 6': [
        Setting('twspy', TWSPY, ('12', '5', '6')),
        Setting('websockets', WEBSOCKETS, ('12', '5', '6')),
    ],
    'window 12, mem_level 8, level 1': [
        Setting('twspy', TWSPY, ('12', '8', '1')),
        Setting('websockets', WEBSOCKETS, ('12', '8', '1')),
        Setting('aiohttp', AIOHTTP, ('any',)),
    ],
    'not compressed': [
        Setting('twspy', TWSPY, ('none',)),
        Setting('websockets', WEBSOCKETS, ('none',)),
        Setting('aiohttp', AIOHTTP, ('none',)),
    ],
}
IDLE = [
    Setting('twspy, not compressed', TWSPY, ('none',)),
    Setting('twspy, `shared=True`', TWSPY, ('shared',), FULL),
    Setting('twspy, 9 bits, mem_level 1', TWSPY, ('9', '1', '6'), FULL),
    Setting('twspy, 12 bits, mem_level 5', TWSPY, ('12', '5', '6')),
    Setting('twspy, 15 bits, mem_level 8', TWSPY, ('15', '8', '6'), FULL),
    Setting('websockets, not compressed', WEBSOCKETS, ('none',)),
    Setting('websockets, 12 bits, mem_level 5', WEBSOCKETS, ('12', '5', '6')),
    Setting(
        'websockets, 15 bits, mem_level 8', WEBSOCKETS, ('15', '8', '6'), FULL
    ),
    Setting('aiohttp, not compressed', AIOHTTP, ('none',)),
    Setting('aiohttp, 12 bits, mem_level 8', AIOHTTP, ('any',)),
    Setting('aiohttp, 15 bits, mem_level 8', AIOHTTP, ('any',), FULL),
]


# The load --------------------------------------------------------------------


class Script:
    """What each client sends, over and over, deflated in advance.

    The first message refers to nothing, and each other one to those before it,
    so that this holds on every connection and in every turn.
    """

    def __init__(self, takeover: bool, compressed: bool) -> None:
        rng = random.Random(5)
        self.messages = [chat(rng, number) for number in range(50)]
        self.frames = []
        deflater = zlib.compressobj(6, zlib.DEFLATED, -9)
        for message in self.messages:
            if not takeover:
                deflater = zlib.compressobj(6, zlib.DEFLATED, -9)
            payload = message
            if compressed:
                deflated = deflater.compress(message)
                deflated += deflater.flush(zlib.Z_SYNC_FLUSH)
                payload = deflated.removesuffix(TAIL)
            head = bytearray(frame(TEXT & 15, payload))
            head[0] = DEFLATED if compressed else TEXT
            self.frames.append(bytes(head))


class Client:
    """One connection, which checks what comes back."""

    def __init__(self, port: int, number: int, offer: str) -> None:
        self.sock = dial(port, number)
        self.sock.sendall(
            b'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
            b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
            b'Sec-WebSocket-Key: %s\r\nSec-WebSocket-Extensions: %s\r\n\r\n'
            % (base64.b64encode(bytes(16)), offer.encode())
        )
        head = b''
        while b'\r\n\r\n' not in head:
            head += self.sock.recv(4096)
        self.answer = head.decode('latin-1').lower()
        self.compressed = 'permessage-deflate' in self.answer
        self.script = Script(
            'client_no_context_takeover' not in self.answer, self.compressed
        )
        self.alone = 'server_no_context_takeover' in self.answer
        self.inflater = zlib.decompressobj(-15)
        self.sent = self.received = self.bytes = 0
        self.buffer = b''

    def send(self, count: int) -> None:
        frames = self.script.frames
        size = len(frames)
        self.sock.sendall(
            b''.join(frames[(self.sent + n) % size] for n in range(count))
        )
        self.sent += count

    def talk(self, count: int) -> None:
        """One message after the other."""
        for _ in range(count):
            self.send(1)
            self.drain()

    def drain(self) -> None:
        """Read all that is still to come."""
        while self.received < self.sent:
            self.read()

    def close(self) -> None:
        """Do the closing handshake."""
        self.drain()
        self.sock.sendall(frame(CLOSE, b'\x03\xe8'))
        while self.sock.recv(4096):
            pass
        self.sock.close()

    def read(self) -> int:
        """Read what is there; returns how many echoes were complete."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise Failure('a server has closed a connection')
        self.bytes += len(data)
        data = self.buffer + data
        at = count = 0
        while len(data) - at >= 4:
            length = data[at + 1]
            begin = at + 2
            if length == 126:
                length = data[at + 2] << 8 | data[at + 3]
                begin = at + 4
            if len(data) < begin + length:
                break
            self.check(data[at], data[begin : begin + length])
            at = begin + length
            count += 1
        self.buffer = data[at:]
        return count

    def check(self, first: int, payload: bytes) -> None:
        if first == DEFLATED:
            if self.alone:
                self.inflater = zlib.decompressobj(-15)
            payload = self.inflater.decompress(payload + TAIL)
        elif first != TEXT or self.compressed:
            raise Failure(f'unexpected first byte of a frame {first:#x}')
        messages = self.script.messages
        if payload != messages[self.received % len(messages)]:
            raise Failure('an echo differs')
        self.received += 1


class Round(NamedTuple):
    """What one server did in one round."""

    rate: float  # messages a second
    cpu: float  # seconds of the server's processor time a message
    busy: float  # share of the server's core
    load: float  # share of the load's core
    size: float  # bytes a message, as it came back


def run_round(
    server: Running, setting: Setting, options: argparse.Namespace
) -> Round:
    clients = [
        Client(server.port, number, setting.offer)
        for number in range(options.connections)
    ]
    if ('none' in setting.words) == clients[0].compressed:
        raise Failure(f'{setting.title} answered {clients[0].answer!r}')
    with select.epoll() as epoll:
        result = take_round(server, clients, epoll, options)
    for client in clients:
        client.close()
    return result


def take_round(
    server: Running,
    clients: list[Client],
    epoll: select.epoll,
    options: argparse.Namespace,
) -> Round:
    by_number = {client.sock.fileno(): client for client in clients}
    for number, client in by_number.items():
        epoll.register(number, select.EPOLLIN)
        client.send(options.depth)

    def run(seconds: float) -> int:
        done = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number, _ in epoll.poll(0.01):
                client = by_number[number]
                count = client.read()
                if count:
                    client.send(count)
                    done += count
        return done

    def marks() -> tuple[float, float, float, int]:
        return (
            time.monotonic(),
            processor_time(server.pid),
            time.process_time(),
            sum(client.bytes for client in clients),
        )

    run(options.warmup)
    before = marks()
    done = run(options.seconds)
    took, cpu, load, size = (
        after - begun for after, begun in zip(marks(), before, strict=True)
    )
    if done == 0 or cpu == 0:
        raise Failure('a server did nothing in the measured time')
    return Round(done / took, cpu / done, cpu / took, load / took, size / done)


# Echoes ----------------------------------------------------------------------


def measure_echoes(options: argparse.Namespace) -> None:
    settings = [
        (group, setting)
        for group, several in ECHOES.items()
        for setting in several
    ]
    results: dict[tuple[str, Setting], list[Round]] = {
        each: [] for each in settings
    }
    with ExitStack() as stack:
        servers = {
            each: stack.enter_context(
                serving(BENCH / 'servers' / each[1].program, *each[1].words)
            )
            for each in settings
        }
        for number in range(options.rounds):
            for each in settings[:: 1 if number % 2 == 0 else -1]:
                group, setting = each
                result = run_round(servers[each], setting, options)
                results[each].append(result)
                print(f'{setting.title}, {group}: {result}', file=sys.stderr)
    print_echoes(results)


def spread(values: list[float], digits: int = 0) -> str:
    return (
        f'{median(values):,.{digits}f} '
        f'({min(values):,.{digits}f} to {max(values):,.{digits}f})'
    )


def print_echoes(results: dict[tuple[str, Setting], list[Round]]) -> None:
    print(
        "\n| | server | messages/s | CPU a message, µs | times twspy's "
        '| bytes back | server core busy | load core busy |'
    )
    print('|---|---|--:|--:|--:|--:|--:|--:|')
    for (group, setting), rounds in results.items():
        subject = results[group, ECHOES[group][0]]
        ratio = median(
            one.cpu / other.cpu
            for one, other in zip(rounds, subject, strict=True)
        )
        cells = [
            group if setting.title == 'twspy' else '',
            setting.title,
            spread([one.rate for one in rounds]),
            spread([one.cpu * 1e6 for one in rounds], 1),
            '' if rounds is subject else f'{ratio:.1f}',
            f'{median(one.size for one in rounds):,.0f}',
            f'{median(one.busy for one in rounds):.0%}',
            f'{median(one.load for one in rounds):.0%}',
        ]
        print(f'| {" | ".join(cells)} |')


# Idle connections ------------------------------------------------------------


def idle_memory(
    setting: Setting, options: argparse.Namespace
) -> tuple[float, float]:
    """Bytes for each connection that has exchanged ten messages, and after
    many more."""

    def open_some(first: int, count: int) -> list[Client]:
        clients = []
        for number in range(first, first + count):
            client = Client(server.port, number, setting.offer)
            client.talk(10)
            clients.append(client)
        return clients

    def grown() -> float:
        time.sleep(REST)
        return (user_memory(server.pid) - before) / options.idle

    path = BENCH / 'servers' / setting.program
    with serving(path, *setting.words) as server:
        for client in open_some(0, WARM_UP):
            client.close()
        time.sleep(REST)
        before = user_memory(server.pid)
        clients = open_some(WARM_UP, options.idle)
        little = grown()
        for client in clients:
            client.talk(MANY - 10)
        much = grown()
        for client in clients:
            client.close()
    return little, much


def measure_idle(options: argparse.Namespace) -> None:
    print(f'\n| server | after 10 messages | after {MANY} |')
    print('|---|--:|--:|')
    for setting in IDLE:
        little, much = idle_memory(setting, options)
        print(
            f'| {setting.title} | {little / 1024:,.1f} KiB '
            f'| {much / 1024:,.1f} KiB |',
            flush=True,
        )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures echo servers that compress.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--rounds', type=int, default=5, help='for each server; 0: none')
    add('--seconds', type=float, default=2.0, help='measured in a round')
    add('--warmup', type=float, default=0.5, help='seconds before that')
    add('--connections', type=int, default=32)
    add('--depth', type=int, default=8, help='messages in flight on each')
    add('--idle', type=int, default=1000, help='connections; 0: none')
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    raise_file_limit()
    take_last_core()
    versions = ', '.join(
        f'{name} {version(name)}'
        for name in ('twspy', 'websockets', 'aiohttp')
    )
    print(
        f'{versions}; {options.connections} connections, {options.depth} '
        f'chat messages of 1 KiB in flight on each; {options.rounds} rounds '
        f'of {options.seconds:g} s. zlib {zlib.ZLIB_RUNTIME_VERSION}.'
    )
    try:
        if options.rounds:
            measure_echoes(options)
        if options.idle:
            measure_idle(options)
    except (Failure, OSError) as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
