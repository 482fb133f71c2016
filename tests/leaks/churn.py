"""Connects, talks and disconnects many times, and watches the server's memory
and descriptors:

    python tests/leaks/churn.py [CONNECTIONS] [MESSAGES]

The connections are spread over many 127.0.0.x source addresses, as one address
has but so many ports. Half of them close properly, the others vanish, reset or
break a rule. Prints what was measured; ends with status 1 where memory grew by
more than 2 MiB, or a descriptor was left, after the first fifth, which warms
up the allocators.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

SERVER = """
import logging, twspy

class Echo(twspy.Server):
    def onmessage(self, client, message):
        client.send(twspy.TextMessage(message.payload))

server = Echo(('127.0.0.1', 0), loglevel=logging.ERROR)
print(server.address[1], flush=True)
server.run()
"""

REQUEST = (
    b'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
    b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
    b'Sec-WebSocket-Key: ' + base64.b64encode(bytes(16)) + b'\r\n\r\n'
)
KEY = b'\0\0\0\0'
TEXT = b'\x81\x90' + KEY + b'sixteen letters!'
TEXT_ANSWER = b'\x81\x10sixteen letters!'
CLOSE = b'\x88\x82' + KEY + b'\x03\xe8'
BROKEN = b'\x83\x80' + KEY
MAX_GROWTH = 2 << 20  # bytes


def connect(port: int, number: int) -> socket.socket:
    """Connect from one of 200 source addresses, do the handshake."""
    sock = socket.socket()
    sock.settimeout(30)
    end = time.monotonic() + 10
    while True:
        try:
            sock.bind((f'127.0.0.{2 + number % 200}', 0))
            sock.connect(('127.0.0.1', port))
            break
        except ConnectionRefusedError:  # bound, but not listening yet
            if time.monotonic() > end:
                raise
            sock.close()
            sock = socket.socket()
            sock.settimeout(30)
    sock.sendall(REQUEST)
    read_until(sock, b'\r\n\r\n')
    return sock


def read_until(sock: socket.socket, end: bytes) -> None:
    data = b''
    while not data.endswith(end):
        part = sock.recv(65536)
        if not part:
            raise EOFError(data)
        data += part


def disconnect(sock: socket.socket, number: int) -> None:
    """Ends in one of the ways in which connections end."""
    way = number % 8
    if way < 5:
        sock.sendall(CLOSE)
        read_until(sock, b'\x88\x02\x03\xe8')
    elif way == 5:
        sock.sendall(TEXT[:9])
    elif way == 6:
        linger = struct.pack('ii', 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    else:
        sock.sendall(BROKEN)
        sock.recv(200)
    sock.close()


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
    return int(pages) * os.sysconf('SC_PAGESIZE')


def descriptors(pid: int) -> int:
    return len(os.listdir(f'/proc/{pid}/fd'))


def settle(pid: int) -> int:
    """The number of descriptors once it has not changed for a while."""
    last, since = descriptors(pid), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.02)
        now = descriptors(pid)
        if now != last:
            last, since = now, time.monotonic()
    return last


def churn(port: int, begin: int, count: int, messages: int) -> None:
    """Makes `count` connections, with `messages` among all of them."""
    batch = 50
    sent = 0
    for number in range(begin, begin + count):
        sock = connect(port, number)
        due = messages * (number - begin + 1) // count
        while sent < due:
            now = min(batch, due - sent)
            sock.sendall(TEXT * now)
            left = len(TEXT_ANSWER) * now
            while left > 0:
                left -= len(sock.recv(left))
            sent += now
        disconnect(sock, number)


def main() -> int:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    messages = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    env = dict(os.environ)
    if 'ASAN_OPTIONS' in env:
        # Freed memory that AddressSanitizer holds back is no leak.
        env['ASAN_OPTIONS'] += (
            ':quarantine_size_mb=1:thread_local_quarantine_size_kb=16'
        )
    process = subprocess.Popen(
        [sys.executable, '-c', SERVER],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        first = connections // 5
        churn(port, 0, first, messages // 5)
        open_before = settle(process.pid)
        before = resident(process.pid)
        churn(port, first, connections - first, messages - messages // 5)
        open_after = settle(process.pid)
        after = resident(process.pid)
    finally:
        process.kill()
        process.communicate()
    growth = after - before
    print(
        f'{connections} connections, {messages} messages: '
        f'memory {before >> 10} -> {after >> 10} KiB '
        f'({growth >> 10:+} KiB), descriptors {open_before} -> {open_after}'
    )
    return int(growth > MAX_GROWTH or open_after > open_before)


if __name__ == '__main__':
    sys.exit(main())
