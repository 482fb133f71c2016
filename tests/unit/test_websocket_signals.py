"""Ctrl-C and other signals get their turn in every call that waits, and
nothing is lost when their handler raises."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from rawends import client_end
from rawpeer import TEXT, RawPeer, pack

import twspy
from twspy import Frame


class Alarm(BaseException):
    """What the handler raises."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Starts a timer whose signal raises Alarm."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield (
        lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    )
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(
    alarm: Callable[[float], None], call: Callable[[], object]
) -> None:
    start = time.monotonic()
    alarm(0.1)
    with pytest.raises(Alarm):
        call()
    assert 0.05 < time.monotonic() - start < 5


def test_recv(alarm: Callable[[float], None]) -> None:
    sock, peer = client_end()
    with sock, peer:
        sock.settimeout(None)
        peer.send(pack(TEXT, b'whole', mask=False)[:3])
        interrupted(alarm, sock.recv)
        peer.send(pack(TEXT, b'whole', mask=False)[3:])
        assert sock.recv().payload == b'whole'


def test_recvn(alarm: Callable[[float], None]) -> None:
    sock, peer = client_end()
    with sock, peer:
        peer.send(pack(TEXT, b'x', mask=False) * 2)
        interrupted(alarm, lambda: sock.recvn(3))
        assert sock.pending() == 2
        peer.send(pack(TEXT, b'y', mask=False))
        assert [f.payload for f in sock.recvn(3)] == [b'x', b'x', b'y']


def test_send(alarm: Callable[[float], None]) -> None:
    sock, peer = client_end(pair=socket.socketpair)
    with sock, peer:
        payload = random.Random(1).randbytes(1 << 20)
        sock.settimeout(None)
        # Part of the frame is out: the rest is kept.
        interrupted(alarm, lambda: sock.send(Frame(TEXT, payload)))
        # Nothing of this one is.
        interrupted(alarm, lambda: sock.send(Frame(TEXT, 'not sent')))
        got: list[bytes] = []

        def read() -> None:
            got.extend(peer.read_frame().payload for _ in range(2))

        thread = threading.Thread(target=read)
        thread.start()
        sock.send(Frame(TEXT, 'next'))
        thread.join()
        assert got == [payload, b'next']


def test_send_that_waits_for_another_thread(
    alarm: Callable[[float], None],
) -> None:
    sock, peer = client_end(pair=socket.socketpair)
    with sock, peer:
        sock.settimeout(None)
        large = Frame(TEXT, bytes(1 << 20))
        thread = threading.Thread(target=lambda: sock.send(large))
        thread.start()
        time.sleep(0.1)
        interrupted(alarm, lambda: sock.send(Frame(TEXT, 'x')))
        assert len(peer.read_frame().payload) == 1 << 20
        thread.join()
        sock.send(Frame(TEXT, 'y'))
        assert peer.read_frame().payload == b'y'


def test_accept(alarm: Callable[[float], None]) -> None:
    with twspy.websocket() as sock:
        sock.bind(('127.0.0.1', 0))
        sock.listen()
        with RawPeer.open(sock.getsockname()) as peer:
            peer.send(b'GET / HTTP/1.1\r\nHost: x\r\n')
            interrupted(alarm, sock.accept)
            peer.send(b'\r\n')
            sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                sock.accept()
            assert peer.read_head()[0] == 426  # it went on from there


@pytest.mark.parametrize('server', [False, True])
def test_handshake(alarm: Callable[[float], None], server: bool) -> None:
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock, two:
        interrupted(alarm, lambda: sock.handshake(server=server))
        assert sock.fileno() == -1


def test_connect(alarm: Callable[[float], None]) -> None:
    with socket.create_server(('127.0.0.1', 0)) as silent:
        with twspy.websocket() as sock:
            interrupted(alarm, lambda: sock.connect(silent.getsockname()))
            assert sock.fileno() == -1


def test_handler_that_returns(alarm: Callable[[float], None]) -> None:
    """As with sockets, the call goes on, and so does its timeout."""
    rung: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    sock, peer = client_end()
    with sock, peer:
        sock.settimeout(0.5)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            sock.recv()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert 0.45 < time.monotonic() - start < 5
        assert len(rung) > 3


def test_timeout_error_of_a_handler_is_not_ours() -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError('from the handler')

    before = signal.signal(signal.SIGALRM, ring)
    sock, peer = client_end(pair=socket.socketpair)
    try:
        with sock, peer:
            sock.settimeout(None)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(TimeoutError, match='from the handler'):
                sock.send(Frame(TEXT, bytes(1 << 20)))
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(TimeoutError, match='from the handler'):
                sock.recv()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# What a program does, and the name of the call in which it waits.
PROGRAM = """
import sys, twspy
sock = twspy.websocket()
if sys.argv[1] == 'accept':
    sock.bind(('127.0.0.1', 0))
    sock.listen()
    print(flush=True)
    sock.accept()
else:
    print(flush=True)
    sock.connect(('127.0.0.1', int(sys.argv[2])))
"""


@pytest.mark.parametrize('call', ['accept', 'connect'])
def test_ctrl_c(call: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as silent:
        port = str(silent.getsockname()[1])
        with subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', PROGRAM, call, port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        assert errors.rstrip().endswith('KeyboardInterrupt')
        assert process.returncode == -signal.SIGINT


def test_none_is_lost_while_it_closes(alarm: Callable[[float], None]) -> None:
    """Nor is what its handler raises: closing has no Python code amid it that
    could not pass it on."""
    for _ in range(300):
        sock, peer = client_end()
        with peer:
            with pytest.raises(Alarm):
                alarm(random.uniform(1e-6, 2e-5))
                sock.close()
                time.sleep(5)  # the alarm is nearer than that
            sock.close()


def test_recv_that_looks_before_it_sleeps(
    alarm: Callable[[float], None],
) -> None:
    """After many answers within microseconds."""
    sock, peer = client_end()
    answer = pack(TEXT, b'at once', mask=False)
    with sock, peer:
        sock.settimeout(None)
        for _ in range(3):
            for _ in range(200):
                waiting = threading.Thread(target=peer.send, args=(answer,))
                waiting.start()
                assert sock.recv().payload == b'at once'
                waiting.join()
            interrupted(alarm, sock.recv)
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv()
            sock.settimeout(None)
