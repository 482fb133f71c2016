"""Measures what clients that say nothing cost a server.

Opens many connections, and prints user-space memory for each, threads,
processor time at rest with keepalive on, and how long it took to connect, as
Markdown. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import sys
import time
from statistics import mean

from suite.system import Failure
from support import (
    CLOSE,
    ECHO,
    ECHO_FRAME,
    ECHO_SERVER,
    PING,
    PONG,
    TEXT,
    connect,
    frame,
    processor_time,
    raise_file_limit,
    read_frame,
    serving,
    status_of,
    take_last_core,
    user_memory,
)

FILES_BESIDE = 100  # of each process, beside those of clients
FIRST = 100  # connections whose speed is compared with all


def warm_up(port: int) -> None:
    """Let the server allocate what it needs once."""
    for number in range(50):
        with connect(port, number) as sock:
            sock.sendall(ECHO_FRAME)
            read_frame(sock)
            sock.sendall(frame(CLOSE, b'\x03\xe8'))
            read_frame(sock)
    time.sleep(0.5)


def open_clients(
    port: int, count: int
) -> tuple[list[socket.socket], list[float]]:
    """Connect one by one; the sockets, and the seconds each took."""
    socks, taken = [], []
    for number in range(count):
        begin = time.perf_counter()
        socks.append(connect(port, number))
        taken.append(time.perf_counter() - begin)
    return socks, taken


def rest(socks: list[socket.socket], seconds: float) -> int:
    """Only answer pings, for a while; returns how many there were."""
    by_number = {sock.fileno(): sock for sock in socks}
    pings = 0
    end = time.monotonic() + seconds
    with select.epoll() as epoll:
        for number in by_number:
            epoll.register(number, select.EPOLLIN)
        while (left := end - time.monotonic()) > 0:
            for number, _ in epoll.poll(left):
                sock = by_number[number]
                opcode, payload = read_frame(sock)
                if opcode != PING:
                    raise Failure(f'expected a ping, got {opcode} {payload!r}')
                sock.sendall(frame(PONG, payload))
                pings += 1
    return pings


def count_alive(socks: list[socket.socket]) -> int:
    """How many clients still get an echo."""
    alive = 0
    for sock in socks:
        try:
            sock.sendall(ECHO_FRAME)
            opcode, payload = read_frame(sock)
            while opcode == PING:
                sock.sendall(frame(PONG, payload))
                opcode, payload = read_frame(sock)
            alive += (opcode, payload) == (TEXT, ECHO)
        except (OSError, EOFError):
            pass
    return alive


def measure(clients: int, seconds: float) -> list[tuple[str, str]]:
    with serving(ECHO_SERVER, 'text') as server:
        take_last_core()
        warm_up(server.port)
        before = user_memory(server.pid)
        begin = time.monotonic()
        socks, taken = open_clients(server.port, clients)
        opened = time.monotonic() - begin
        grown = user_memory(server.pid) - before
        # Keepalive does not begin for all at once.
        rest(socks, 1.0)
        cpu = processor_time(server.pid)
        pings = rest(socks, seconds)
        cpu = processor_time(server.pid) - cpu
        after = user_memory(server.pid) - before
        threads = status_of(server.pid, 'Threads')
        alive = count_alive(socks)
        for sock in socks:
            sock.close()
    if alive < clients:
        raise Failure(f'{clients - alive} of {clients} clients were lost')
    first, last = taken[:FIRST], taken[-FIRST:]
    return [
        ('clients', f'{clients:,}'),
        ('user-space memory a client', f'{grown / clients:,.0f} bytes'),
        ('the same after the rest', f'{after / clients:,.0f} bytes'),
        ('threads', f'{threads}'),
        (
            f'processor at rest ({seconds:g} s, {pings:,} pings)',
            f'{cpu / seconds:.2%} of a core',
        ),
        ('connecting all, one by one', f'{opened:.1f} s'),
        (f'mean of the first {FIRST}', f'{mean(first) * 1e6:.0f} µs'),
        ('mean of all', f'{mean(taken) * 1e6:.0f} µs'),
        (f'mean of the last {FIRST}', f'{mean(last) * 1e6:.0f} µs'),
    ]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures what idle clients cost a server.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--clients', type=int, default=10_000)
    add('--rest', type=float, default=20.0, help='seconds measured at rest')
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    limit = raise_file_limit()
    clients = min(options.clients, limit - FILES_BESIDE)
    if clients < options.clients:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        print(
            f'only {clients} clients: a process may open {hard} files',
            file=sys.stderr,
        )
    try:
        results = measure(clients, options.rest)
    except (Failure, OSError, EOFError) as error:
        print(f'bench: {error!r}', file=sys.stderr)
        return 1
    print('| idle clients | |\n| --- | ---: |')
    for name, value in results:
        print(f'| {name} | {value} |')
    return 0


if __name__ == '__main__':
    sys.exit(main())
