"""`twspy bench URL`: puts load on an echo server and tells how it did."""

from __future__ import annotations

import argparse
import collections
import sys
import threading
import time
from typing import Any

from .. import BinaryMessage, Connection, TextMessage, WebSocketError
from .. import connect as open_connection
from .histogram import Histogram, duration
from .options import UsageError, add_client_options, client_options
from .progress import Progress

_NUMBER = 8  # hexadecimal digits at the front of each message


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        'bench',
        help='put load on an echo server',
        description='Sends messages to a server that echoes, and checks every '
        'echo. A thread for each connection: where this process is busy, the '
        'server could do more.',
    )
    parser.add_argument('url', help='ws://HOST[:PORT]/PATH, or wss://...')
    add = parser.add_argument
    add('-c', '--connections', type=_above_zero, default=8, metavar='N')
    add(
        '-d',
        '--depth',
        type=_above_zero,
        default=1,
        metavar='N',
        help='messages in flight on each connection (default: 1)',
    )
    add(
        '-s',
        '--size',
        type=_above_zero,
        default=32,
        metavar='BYTES',
        help='of a message (default: 32, at least 8)',
    )
    add(
        '-t',
        '--seconds',
        type=float,
        default=5.0,
        metavar='SECONDS',
        help='to measure (default: 5)',
    )
    add('-b', '--binary', action='store_true', help='send binary messages')
    add_client_options(parser)
    parser.set_defaults(run=run)


def _above_zero(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


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
                echo = connection.recv(timeout=30)
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
    connections: list[Connection] = []
    try:
        arguments = client_options(options)
        began = time.perf_counter()
        for _ in range(options.connections):
            connections.append(open_connection(options.url, **arguments))
        opened = time.perf_counter() - began
    except (UsageError, ValueError, TypeError) as error:
        print(f'twspy: {error}', file=sys.stderr)
        return 2
    except (OSError, WebSocketError) as error:
        print(f'twspy: {options.url}: {error}', file=sys.stderr)
        return 1
    load = Load(options)
    threads = [
        threading.Thread(target=load.run, args=[connection], daemon=True)
        for connection in connections
    ]
    for thread in threads:
        thread.start()
    load.start.wait()
    began = time.perf_counter()
    with Progress(options.seconds) as progress:
        while (spent := time.perf_counter() - began) < options.seconds:
            if load.failures:
                break
            progress.show(spent)
            time.sleep(min(0.1, options.seconds - spent))
    load.stop = True
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return report(load, spent, opened)


def report(load: Load, seconds: float, opened: float) -> int:
    options = load.options
    found = load.histogram
    for failure in load.failures[:3]:
        print(f'twspy: {failure}', file=sys.stderr)
    if found.total == 0:
        return 1
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
