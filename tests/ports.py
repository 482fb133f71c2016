"""Ports that a test must know before anybody has bound them.

`bind()` to port 0 is right wherever a test can ask for the port afterwards. A
port that was found that way and let go is anybody's: a process beside may be
given it a moment later, also as the source port of a connection.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')
LOWEST = 20_000
# What IANA sets apart for the kernel's choice, where that is not told.
IANA_DYNAMIC = 49_152

# UDP sockets on the ports that were given out: who else looks for one, in
# whatever process, passes them over. They are let go as this process ends.
leases: list[socket.socket] = []


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of both loopback addresses that refuses connections: bound, so
    that nobody is given it, and not listening."""
    while True:
        with (
            socket.socket(socket.AF_INET) as ipv4,
            socket.socket(socket.AF_INET6) as ipv6,
        ):
            ipv4.bind(('127.0.0.1', 0))
            port: int = ipv4.getsockname()[1]
            try:
                ipv6.bind(('::1', port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return


def free_port() -> int:
    """A port that the test, or a program that it starts, can bind: one that
    the kernel gives nobody who asks for any, another one each time."""
    ports = range(LOWEST, first_dynamic_port())
    assert len(ports) > 1000, f'the kernel gives out ports from {ports.stop}'
    for port in random.SystemRandom().sample(ports, len(ports)):
        lease = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lease.bind(('127.0.0.1', port))
            for family, host in LOOPBACK:
                with socket.socket(family) as sock:
                    sock.bind((host, port))
        except OSError as error:
            lease.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            leases.append(lease)
            return port
    raise AssertionError(f'all ports of {ports} are taken')


def first_dynamic_port() -> int:
    """Where the range starts from which the kernel chooses (Linux tells)."""
    try:
        text = Path('/proc/sys/net/ipv4/ip_local_port_range').read_text()
    except FileNotFoundError:
        return IANA_DYNAMIC
    return int(text.split()[0])
