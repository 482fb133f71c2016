"""What the measuring programs share: a server in a process of its own, what
the kernel tells of it, and plain clients that time their echoes.

The clients share no code with twspy.
"""

from __future__ import annotations

import base64
import gc
import os
import resource
import select
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from suite.servers import START_TIME, STOP_TIME
from suite.system import Failure, on_core

ECHO_SERVER = Path(__file__).resolve().parent / 'servers' / 'twspy_echo.py'
TICKS = os.sysconf('SC_CLK_TCK')
REPLY_TIME = 30.0  # seconds a server has for an answer
KEY = bytes(4)  # a mask of zeros leaves a payload as it is

CONTINUATION, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10

REQUEST = (
    'GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
    'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
    f'Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n'
)


# Processes -------------------------------------------------------------------


class Running(NamedTuple):
    """A server that runs."""

    pid: int
    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def serving(
    *arguments: object,
    core: int | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Running]:
    """Run a Python program that prints its port, on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    with on_core(cores[0] if core is None else core):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], START_TIME)
        line = process.stdout.readline() if ready else b''
        if not line.strip().isdigit():
            raise Failure(f'the server printed {line!r}, expected its port')
        yield Running(process.pid, int(line), process)
        if process.poll() is not None:
            raise Failure(f'the server ended with {process.returncode}')
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def take_last_core() -> None:
    """Run here on the last core, as servers take the first."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def status_of(pid: int, field: str) -> int:
    """A number of /proc/PID/status: proc(5)."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == field:
            return int(value.split()[0])
    raise Failure(f'/proc/{pid}/status has no {field}')


def user_memory(pid: int) -> int:
    """Bytes of memory that only this process has, without mapped files."""
    return status_of(pid, 'RssAnon') * 1024


def processor_time(pid: int) -> float:
    """Seconds of user and system time of all threads, living and ended."""
    text = Path(f'/proc/{pid}/stat').read_text()
    fields = text.rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def raise_file_limit() -> int:
    """Allow as many open files as may be; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path('/proc/sys/fs/nr_open').read_text())
    for limits in ((most, most), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return limits[0]
        except (OSError, ValueError):
            continue
    return soft


# Clients ---------------------------------------------------------------------


def frame(opcode: int, payload: bytes = b'', final: bool = True) -> bytes:
    """Pack a frame as a client does, with a mask."""
    head = bytes([final << 7 | opcode])
    if len(payload) < 126:
        head += bytes([128 | len(payload)])
    elif len(payload) < 65536:
        head += b'\xfe' + len(payload).to_bytes(2, 'big')
    else:
        head += b'\xff' + len(payload).to_bytes(8, 'big')
    return head + KEY + payload


def dial(port: int, number: int = 0) -> socket.socket:
    """Connect; the numbers spread over source addresses, as each of them has
    but so many ports."""
    sock = socket.socket()
    sock.settimeout(REPLY_TIME)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    deadline = time.monotonic() + START_TIME
    while True:
        try:
            sock.bind((f'127.0.0.{2 + number % 100}', 0))
            sock.connect(('127.0.0.1', port))
            return sock
        except ConnectionRefusedError:  # bound, but not listening yet
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            sock = socket.socket()
            sock.settimeout(REPLY_TIME)


def connect(port: int, number: int = 0, path: str = '/') -> socket.socket:
    """Connect and do the opening handshake."""
    sock = dial(port, number)
    sock.sendall(REQUEST.format(path=path).encode())
    head = b''
    while b'\r\n\r\n' not in head:
        part = sock.recv(4096)
        if not part:
            break
        head += part
    if not (head.startswith(b'HTTP/1.1 101 ') and head.endswith(b'\r\n\r\n')):
        raise Failure(f'the server refused a client: {head!r}')
    return sock


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Read a whole frame of the server: opcode and payload."""

    def exactly(count: int) -> bytes:
        data = b''
        while len(data) < count:
            part = sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    first, length = exactly(2)
    if length == 126:
        length = int.from_bytes(exactly(2), 'big')
    elif length == 127:
        length = int.from_bytes(exactly(8), 'big')
    return first & 15, exactly(length)


# Echoes ----------------------------------------------------------------------

ECHO = b'sixteen letters!'
ECHO_FRAME = frame(TEXT, ECHO)
ECHO_ANSWER = bytes([0x81, len(ECHO)]) + ECHO


class Timed:
    """A client of `time_echoes`."""

    def __init__(self, sock: socket.socket, due: float) -> None:
        self.sock = sock
        self.due = due  # when to send next
        self.sent = 0.0  # when the echo in flight was sent, 0: none is
        self.missing = 0  # bytes of it


def time_echoes(
    socks: list[socket.socket],
    seconds: float,
    begin: Callable[[], object] = lambda: None,
    pause: float = 0.005,
) -> list[float]:
    """The seconds each echo took, from many clients side by side.

    Each has one echo in flight and pauses before the next. After a fifth of a
    second `begin` is called, and from then on they count, for so long and
    until the last one is back.
    """
    start = time.perf_counter() + 0.2
    began = False
    taken: list[float] = []
    clients = [
        Timed(sock, start - 0.2 + pause * number / len(socks))
        for number, sock in enumerate(socks)
    ]
    gc.collect()
    gc.disable()
    with selectors.EpollSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
        while True:
            now = time.perf_counter()
            if now >= start and not began:
                begin()
                began = True
                now = time.perf_counter()
            for client in clients:
                if now < start + seconds and not client.sent:
                    if client.due <= now:
                        client.sent = time.perf_counter()
                        client.missing = len(ECHO_ANSWER)
                        client.sock.sendall(ECHO_FRAME)
            if now >= start + seconds:
                if not any(client.sent for client in clients):
                    break
                if now > start + seconds + REPLY_TIME:
                    raise Failure(f'no echo within {REPLY_TIME:g} s')
            for key, _ in selector.select(0.001):
                client = key.data
                part = client.sock.recv(4096)
                at = len(ECHO_ANSWER) - client.missing
                if not part:
                    raise Failure('the server has closed a connection')
                if part != ECHO_ANSWER[at : at + len(part)]:
                    raise Failure(f'an echo went wrong: {part!r}')
                client.missing -= len(part)
                if client.missing == 0:
                    now = time.perf_counter()
                    if began:
                        taken.append(now - client.sent)
                    client.sent, client.due = 0.0, now + pause
    gc.enable()
    return taken


def milliseconds(taken: list[float]) -> str:
    """Median, 99th percentile and maximum, as cells of a table."""
    ordered = sorted(taken)
    marks = (len(ordered) // 2, len(ordered) * 99 // 100, len(ordered) - 1)
    return ' | '.join(f'{ordered[mark] * 1e3:.2f}' for mark in marks)
