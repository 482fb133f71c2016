"""`twspy bench URL`: puts load on an echo server and tells how it did."""

from __future__ import annotations

import argparse
import collections
import contextlib
import threading
import time
from typing import Any

from .. import (
    BinaryMessage,
    Connection,
    HandshakeError,
    TextMessage,
    WebSocketError,
)
from .. import connect as open_connection
from ..uri import hide_secrets
from .display import complain
from .histogram import Histogram, duration
from .options import (
    UsageError,
    add_client_options,
    at_least,
    client_options,
    seconds,
)
from .progress import Progress

_NUMBER = 8  # hexadecimal digits at the front of each message
_PATIENCE = 30.0  # seconds to wait for an echo

# Beyond, both ends may wait in send() for the other one to read.
_MAX_IN_FLIGHT = 1 << 20  # bytes


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        'bench',
        help='put load on an echo server',
        description='Sends messages to a server that echoes, and checks every '
        'echo. A thread for each connection: where this process is busy, the '
        'server could do more.',
        allow_abbrev=False,
    )
    parser.add_argument('url', help='ws://HOST[:PORT]/PATH, or wss://...')
    add = parser.add_argument
    add(
        '-c',
        '--connections',
        type=at_least(1),
        default=8,
        metavar='N',
        help='at a time (default: 8)',
    )
    add(
        '-d',
        '--depth',
        type=at_least(1),
        default=1,
        metavar='N',
        help='messages in flight on each connection (default: 1)',
    )
    add(
        '-s',
        '--size',
        type=at_least(_NUMBER),
        default=32,
        metavar='BYTES',
        help='of a message (default: 32, at least 8)',
    )
    add(
        '-t',
        '--seconds',
        type=seconds,
        default=5.0,
        metavar='SECONDS',
        help='to measure (default: 5)',
    )
    add('-b', '--binary', action='store_true', help='send binary messages')
    add_client_options(parser)
    parser.set_defaults(run=run)


class Load:
    """What all connections share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start = threading.Barrier(options.connections + 1)
        self.stop = False
        self.failures: list[str] = []
        self.histogram = Histogram()
        self.lock = threading.Lock()

    def body(self, number: int) -> Any:
        """The message of a number."""
        text = f'{number:0{_NUMBER}x}'.ljust(self.options.size, '.')
        if self.options.binary:
            return BinaryMessage(text.encode())
        return TextMessage(text)

    def run(self, connection: Connection) -> None:
        """Keeps messages in flight on a connection, until told to stop."""
        histogram = Histogram()
        sent: collections.deque[tuple[Any, float]] = collections.deque()
        now = time.perf_counter
        number = 0
        try:
            self.start.wait()
            while sent or not self.stop:
                while len(sent) < self.options.depth and not self.stop:
                    message = self.body(number)
                    sent.append((message, now()))
                    connection.send(message)
                    number += 1
                echo = connection.recv(timeout=_PATIENCE)
                message, at = sent.popleft()
                histogram.add(now() - at)
                if echo != message:
                    raise ValueError(f'got {echo!r}, expected {message!r}')
        except (OSError, ValueError, WebSocketError) as error:
            with self.lock:
                self.failures.append(str(error))
        with self.lock:
            self.histogram.merge(histogram)


def run(options: argparse.Namespace) -> int:
    if options.seconds is None:
        raise UsageError('--seconds is inf, expected an end')
    if options.depth > 1 and options.depth * options.size > _MAX_IN_FLIGHT:
        raise UsageError(
            f'--depth {options.depth} with --size {options.size} is more than '
            '1 MiB in flight: both ends could wait for each other'
        )
    if options.max_size != 0:
        options.max_size = max(options.max_size, options.size)
    arguments = client_options(options)
    with contextlib.ExitStack() as cleanup:
        connections: list[Connection] = []
        began = time.perf_counter()
        try:
            for _ in range(options.connections):
                connection = open_connection(options.url, **arguments)
                cleanup.callback(connection.close)
                connections.append(connection)
        except HandshakeError as error:
            return complain(str(error), 1)
        except (OSError, WebSocketError) as error:
            return complain(f'{hide_secrets(options.url)}: {error}', 1)
        except (ValueError, TypeError) as error:
            return complain(str(error), 2)
        opened = time.perf_counter() - began
        load = Load(options)
        spent = measure(load, connections)
    return report(load, spent, opened)


def measure(load: Load, connections: list[Connection]) -> float:
    """Puts the load on; returns how many seconds it took."""
    limit = load.options.seconds
    threads = [
        threading.Thread(target=load.run, args=[connection], daemon=True)
        for connection in connections
    ]
    for thread in threads:
        thread.start()
    load.start.wait()
    began = time.perf_counter()
    try:
        with Progress(limit) as progress:
            while (spent := time.perf_counter() - began) < limit:
                if load.failures:
                    break
                progress.show(spent)
                time.sleep(min(0.1, limit - spent))
    finally:
        load.stop = True
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def report(load: Load, seconds: float, opened: float) -> int:
    options = load.options
    found = load.histogram
    for failure in load.failures[:3]:
        complain(failure, 1)
    if found.total == 0:
        return complain('no message has come back', 1)
    rate = found.total / seconds
    print(
        f'{found.total:,} messages of {options.size} bytes in {seconds:.2f} s '
        f'over {options.connections} connections, {options.depth} in flight '
        'on each'
    )
    print(
        f'{rate:,.0f} messages/s, {rate * options.size / 1e6:,.1f} MB/s each '
        f'way; opening took {duration(opened / options.connections)} each'
    )
    shares = ', '.join(
        f'{percent:g} % {duration(found.percentile(percent))}'
        for percent in (50, 90, 99, 99.9)
    )
    print(f'round trips: {shares}, longest {duration(found.longest)}')
    print()
    print('\n'.join(found.lines()))
    return 1 if load.failures else 0
