"""What is measured: each cell is a table of its own in the report."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """A load, and what the servers must be able to do for it.

    how: echo, fanout, churn; rate: at half of what the C loop does; idle:
    memory
    flags: with which servers are started, all of which they must `can`
    chart: whether the chart shows it
    """

    title: str
    load: tuple[str, ...]
    how: str = 'echo'
    kind: str = 'text'
    flags: tuple[str, ...] = ()
    quick: bool = False
    chart: bool = False
    only: tuple[str, ...] = ()  # servers; empty: all that can

    @property
    def unit(self) -> str:
        return {'churn': 'connections', 'fanout': 'deliveries'}.get(
            self.how, 'messages'
        )


def echo(
    content: str, size: int, connections: int, depth: int, *more: str
) -> tuple[str, ...]:
    return (
        *('--content', content, '--size', str(size)),
        *('--connections', str(connections), '--depth', str(depth)),
        *more,
    )


def fanout(connections: int) -> tuple[str, ...]:
    return (*echo('text', 128, connections, 1), '--mode', 'fanout')


CHURN = ('--mode', 'churn', '--connections', '32')
TLS = ('tls',)
IDLE = ('--mode', 'hold', '--content', 'json', '--size', '1024')

CELLS = {
    'small': Cell(
        '16 B text, 32 connections, 1 in flight',
        echo('text', 16, 32, 1),
        quick=True,
        chart=True,
    ),
    'small-deep': Cell(
        '16 B text, 32 connections, 16 in flight',
        echo('text', 16, 32, 16),
        quick=True,
        chart=True,
    ),
    'binary': Cell(
        '1 KiB binary, 32 connections, 16 in flight',
        echo('binary', 1024, 32, 16),
        kind='binary',
        quick=True,
        chart=True,
    ),
    'many': Cell(
        '128 B text, 1,000 connections, 1 in flight',
        echo('text', 128, 1000, 1),
        chart=True,
    ),
    'large': Cell(
        '16 KiB binary, 32 connections, 16 in flight',
        echo('binary', 16384, 32, 16),
        kind='binary',
    ),
    'utf8': Cell(
        '4 KiB non-ASCII text, 32 connections, 1 in flight',
        echo('utf8', 4096, 32, 1),
        chart=True,
    ),
    'huge': Cell(
        '1 MiB binary, 1 connection, 1 in flight',
        echo('binary', 1 << 20, 1, 1),
        kind='binary',
    ),
    'huge-text': Cell(
        '1 MiB text, 1 connection, 1 in flight', echo('text', 1 << 20, 1, 1)
    ),
    'one': Cell(
        '16 B text, 1 connection, 1 in flight', echo('text', 16, 1, 1)
    ),
    'churn': Cell(
        'connect and close, 32 at a time', CHURN, how='churn', quick=True
    ),
    'fanout-1000': Cell(
        '128 B text of one to 1,000', fanout(1000), 'fanout', flags=('fanout',)
    ),
    'fanout-10000': Cell(
        '128 B text of one to 10,000',
        fanout(10_000),
        'fanout',
        flags=('fanout',),
    ),
    'tls': Cell(
        'TLS, 128 B text, 32 connections, 1 in flight',
        echo('text', 128, 32, 1, '--tls'),
        flags=TLS,
        quick=True,
        chart=True,
    ),
    'tls-large': Cell(
        'TLS, 16 KiB binary, 32 connections, 1 in flight',
        echo('binary', 16384, 32, 1, '--tls'),
        kind='binary',
        flags=TLS,
    ),
    'tls-huge': Cell(
        'TLS, 1 MB binary, 1 connection, 4 in flight',
        echo('binary', 1_000_000, 1, 4, '--tls'),
        kind='binary',
        flags=TLS,
    ),
    'tls-churn': Cell(
        'TLS, connect and close, 32 at a time, full handshakes',
        (*CHURN, '--tls'),
        'churn',
        flags=TLS,
    ),
    'tls-resume': Cell(
        'TLS, connect and close, 32 at a time, sessions resumed',
        (*CHURN, '--tls', '--resume'),
        'churn',
        flags=TLS,
    ),
    'deflate': Cell(
        'compressed, 1 KiB of JSON, 32 connections, 1 in flight',
        echo('json', 1024, 32, 1, '--compress'),
        flags=('deflate',),
        chart=True,
    ),
    'latency': Cell(
        '16 B text, 32 connections, at half of what the C loop does',
        echo('text', 16, 32, 64),
        'rate',
    ),
    'beside': Cell(
        '16 B text, 32 connections, 1 in flight, beside a thread of the '
        'server that computes in Python',
        echo('text', 16, 32, 1),
        flags=('spin',),
    ),
    'idle': Cell('idle', (*IDLE, '--each', '1'), 'idle', flags=('idle',)),
    'idle-tls': Cell(
        'idle, TLS',
        (*IDLE, '--each', '1', '--tls'),
        'idle',
        flags=('idle', 'tls'),
    ),
    'idle-deflate': Cell(
        'idle, compressed, after a message of 1 KiB',
        (*IDLE, '--each', '1', '--compress'),
        'idle',
        flags=('idle', 'deflate'),
    ),
    'idle-deflate-20': Cell(
        'idle, compressed, after 20 messages of 1 KiB',
        (*IDLE, '--each', '20', '--compress'),
        'idle',
        flags=('idle', 'deflate'),
    ),
}

# Round trips of one client: bytes.
CLIENT_SIZES = {
    'client-256': 256,
    'client-8k': 8 * 1024,
    'client-100k': 100_000,
    'client-2m': 2_000_000,
}
CLIENT_CELLS = {
    name + ('-tls' if tls else ''): (size, tls)
    for tls in (False, True)
    for name, size in CLIENT_SIZES.items()
}
QUICK_CLIENTS = ('client-256', 'client-100k')
