"""Peers that send without end, faster than it is taken, what is nothing for
the program: timeouts, signals and other threads have their turn all the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from rawends import client_end
from rawpeer import PING, TEXT, RawPeer, pack

import twspy

# In a process of its own, as it must not need our GIL. It ends by itself: the
# connection has ended then, which is not what these calls are to raise.
FLOOD = """
import socket, sys, threading, time
sock = socket.socket(fileno=int(sys.argv[1]))
sock.setblocking(True)
data = bytes.fromhex(sys.argv[2]) * 30_000
def drain():
    try:
        while sock.recv(1 << 16):
            pass
    except OSError:
        pass
threading.Thread(target=drain, daemon=True).start()
end = time.monotonic() + 6
print(end='.', flush=True)
try:
    while time.monotonic() < end:
        sock.sendall(data)
except OSError:
    pass
"""


@contextmanager
def flood(peer: RawPeer, frame: bytes) -> Iterator[None]:
    fd = peer.sock.detach()
    with subprocess.Popen(
        [sys.executable, '-c', FLOOD, str(fd), frame.hex()],
        pass_fds=[fd],
        stdout=subprocess.PIPE,
    ) as process:
        os.close(fd)
        assert process.stdout is not None
        assert process.stdout.read(1) == b'.'
        try:
            yield
        finally:
            process.kill()


@contextmanager
def flooded(frame: bytes) -> Iterator[twspy.Connection]:
    sock, peer = client_end()
    with sock, flood(peer, frame):
        yield twspy.Connection(sock)


PINGS = pack(PING, b'', mask=False)


@pytest.mark.parametrize('hooked', [False, True])
def test_recv_times_out_amid_pings(hooked: bool) -> None:
    with flooded(PINGS) as conn:
        if hooked:
            conn.sock.add_hook(recv=lambda frame: frame)
        with pytest.raises(TimeoutError):
            conn.recv(timeout=0.3)


def test_recv_lets_other_threads_run() -> None:
    over = threading.Event()
    ticks: list[float] = []

    def tick() -> None:
        while not over.wait(0.02):
            ticks.append(time.monotonic())

    with flooded(PINGS) as conn:
        thread = threading.Thread(target=tick)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                conn.recv(timeout=1)
            last = time.monotonic()
        finally:
            over.set()
            thread.join()
    assert len([t for t in ticks if t < last]) > 3


def test_recv_is_interrupted_amid_pings() -> None:
    class Alarm(BaseException):
        pass

    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with flooded(PINGS) as conn:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            start = time.monotonic()
            with pytest.raises(Alarm):
                conn.recv()
            assert time.monotonic() - start < 4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_recv_that_must_not_wait_finds_what_lies_behind_pings() -> None:
    sock, peer = client_end()
    with sock, peer:
        conn = twspy.Connection(sock)
        sock.setblocking(False)
        peer.send(PINGS * 100 + pack(TEXT, b'behind', mask=False))
        while True:
            try:
                assert conn.recv().payload == 'behind'
            except BlockingIOError:
                continue
            break


def test_close_gives_up_amid_messages() -> None:
    with flooded(pack(TEXT, b'x', mask=False)) as conn:
        conn.close(timeout=0.3)
        with pytest.raises(twspy.SocketClosed, match='did not answer'):
            conn.recv()


class Handler(twspy.Server):
    """Its handler does what the test says."""

    def __init__(self, call: str) -> None:
        super().__init__(('127.0.0.1', 0), max_threads=4)
        self.call = call
        self.raised: list[BaseException | None] = []
        self.returned = threading.Event()
        self.over = threading.Event()
        self.ending = ''

    def onopen(self, client: Any) -> None:
        try:
            getattr(client, self.call)(timeout=0.3)
            self.raised.append(None)
        except Exception as error:
            self.raised.append(error)
        self.returned.set()

    def onclose(self, client: Any, message: Any) -> None:
        self.ending = str(message)
        self.over.set()


def test_recv_in_a_handler_times_out_amid_pings() -> None:
    with Handler('recv') as server:
        peer = RawPeer.connect(server.address)
        with flood(peer, pack(PING, b'')):
            assert server.returned.wait(40)
    assert [type(e) for e in server.raised] == [TimeoutError]


def test_close_in_a_handler_gives_up_amid_messages() -> None:
    with Handler('close') as server:
        peer = RawPeer.connect(server.address)
        with flood(peer, pack(TEXT, b'x')):
            assert server.returned.wait(40)
            assert server.over.wait(40)
    assert server.raised == [None]
    assert 'did not answer' in server.ending
