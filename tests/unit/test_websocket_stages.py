"""The stages of connect() (look-up, TCP, TLS with a proxy, tunnel, TLS with
the server, opening handshake): each can be interrupted, is bounded by the
same deadline, and says in its errors that it was it, and with whom."""

import errno
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from conftest import find_program
from listeners import hanging, listen
from rawends import in_thread
from tlsends import bridge_thread, wait_until

import twspy


class Stage(NamedTuple):
    """A client that connects, and is in this stage for ever."""

    family: int
    address: tuple[str, int]
    silent: socket.socket  # who does not say anything
    said: str  # how an error begins
    proxy: str = ''
    context: ssl.SSLContext | None = None
    secure: bool = False

    def make(self, **options: Any) -> twspy.websocket:
        sock = twspy.websocket(family=self.family, **options)
        if self.context is not None:
            sock.enable_ssl(context=self.context)
        elif self.secure:
            sock.enable_ssl()
        return sock

    def connect(self, sock: twspy.websocket) -> None:
        host, port = self.silent.getsockname()
        proxy = (self.proxy, host, port, None, None) if self.proxy else None
        sock.connect(self.address, proxy=proxy)


STAGES = ['tcp', 'proxy-tls', 'http', 'socks', 'tls', 'bridge', 'answer']


@pytest.fixture(scope='module', autouse=True)
def bridge_at_rest() -> Iterator[None]:
    """The thread of bridges has ended, and with it its own sockets."""
    yield
    wait_until(lambda: bridge_thread() is None)


@pytest.fixture(params=[socket.AF_UNSPEC, socket.AF_INET], ids=['any', 'one'])
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest, family: int) -> Iterator[Stage]:
    name = request.param
    with ExitStack() as stack:
        hangs = name == 'tcp'
        silent = stack.enter_context(
            listen(socket.AF_INET, backlog=0 if hangs else None)
        )
        if hangs:
            stack.enter_context(hanging(silent))
        address = silent.getsockname()
        host = '{}:{}'.format(*address)
        stages = {
            'tcp': Stage(family, address, silent, f'connect to {host}'),
            'proxy-tls': Stage(
                family,
                ('server.test', 443),
                silent,
                f'TLS handshake with proxy {host}',
                'https',
            ),
            'http': Stage(
                family,
                ('server.test', 443),
                silent,
                f'tunnel through proxy {host}',
                'http',
            ),
            'socks': Stage(
                family,
                ('server.test', 443),
                silent,
                f'tunnel through proxy {host}',
                'socks5h',
            ),
            'tls': Stage(
                family,
                address,
                silent,
                f'TLS handshake with {host}',
                secure=True,
            ),
            'bridge': Stage(
                family,
                address,
                silent,
                'TLS handshake with 127.0.0.1',
                context=ssl.create_default_context(),
            ),
            'answer': Stage(
                family, address, silent, f'opening handshake with {host}'
            ),
        }
        yield stages[name]


def count_sockets() -> int:
    """Without what the thread of bridges keeps for itself for a while."""
    count = 0
    for fd in os.listdir('/proc/self/fd'):
        try:
            count += os.readlink(f'/proc/self/fd/{fd}').startswith('socket:')
        except OSError:
            pass  # of listdir() itself, or closed just now
    return count


@pytest.fixture
def no_sockets_left() -> Iterator[None]:
    """What a test has opened it has closed; a bridge does so in a thread."""
    before = count_sockets()
    yield
    end = time.monotonic() + 10
    while count_sockets() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert count_sockets() <= before


# --- the end of patience ---


@pytest.mark.parametrize('by', ['timeout', 'open_timeout'])
def test_timeout(stage: Stage, by: str) -> None:
    options = {'open_timeout': 0.3} if by == 'open_timeout' else {}
    with stage.make(**options) as sock:
        sock.settimeout(0.3 if by == 'timeout' else 10)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            stage.connect(sock)
        assert 0.25 < time.monotonic() - start < 5
        assert str(caught.value) == f'{stage.said} timed out'
        assert sock.fileno() == -1
        with pytest.raises(OSError, match='closed'):
            stage.connect(sock)


def test_deadline_is_for_all_stages_together() -> None:
    """A proxy and a server that each take their time."""
    with listen(socket.AF_INET) as listener:

        def dribble() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(10)
                try:
                    for step in (
                        b'HTTP/1.1 200 OK\r\n\r\n',
                        b'HTTP/1.1 100 Continue\r\n\r\n',
                        b'HTTP/1.1 102 Processing\r\n\r\n',
                        b'HTTP/1.1 103 Early Hints\r\n\r\n',
                    ):
                        time.sleep(0.2)
                        peer.sendall(step)
                    while peer.recv(4096):
                        pass
                except OSError:
                    pass

        join = in_thread(dribble)
        host, port = listener.getsockname()
        with twspy.websocket(
            family=socket.AF_UNSPEC, open_timeout=0.5
        ) as sock:
            start = time.monotonic()
            with pytest.raises(
                TimeoutError, match=r'^opening handshake with server\.test:80 '
            ):
                sock.connect(
                    ('server.test', 80), proxy=('http', host, port, None, None)
                )
            assert 0.4 < time.monotonic() - start < 5
        assert join() is None


# --- interruption ---


class Alarm(BaseException):
    """What the signal handler raises."""


@pytest.fixture
def alarm() -> Iterator[Callable[[], object]]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.2)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signal(
    no_sockets_left: None, stage: Stage, alarm: Callable[[], object]
) -> None:
    with stage.make() as sock:
        start = time.monotonic()
        alarm()
        with pytest.raises(Alarm):
            stage.connect(sock)
        assert 0.1 < time.monotonic() - start < 5
        assert sock.fileno() == -1


def test_close(no_sockets_left: None, stage: Stage) -> None:
    with stage.make(open_timeout=30) as sock:
        join = in_thread(lambda: stage.connect(sock))
        time.sleep(0.2)
        with pytest.raises(twspy.ConcurrencyError):
            stage.connect(sock)
        if stage.family == socket.AF_UNSPEC and stage.said.startswith('conn'):
            assert sock.fileno() == -1
            assert sock.family == socket.AF_UNSPEC
            assert 'connecting' in repr(sock)
            with pytest.raises(OSError, match='AF_UNSPEC'):
                sock.getsockname()
        else:
            assert sock.fileno() >= 0
        sock.close()
        error = join()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        assert sock.fileno() == -1


def test_close_at_any_moment(family: int) -> None:
    """From the first look-up to the last byte, close() is never missed."""
    with listen(socket.AF_INET) as listener:
        address = listener.getsockname()
        for delay in range(50):
            with twspy.websocket(family=family, open_timeout=30) as sock:
                join = in_thread(lambda sock=sock: sock.connect(address))
                end = time.perf_counter() + delay * 20e-6
                while time.perf_counter() < end:
                    pass
                sock.close()
                error = join()
                assert isinstance(error, OSError), error
                assert error.errno == errno.EBADF


LOOK_UP = """
import signal, socket, sys, threading, time, twspy
how, which = sys.argv[1:]
sock = twspy.websocket(family=socket.AF_UNSPEC)
start = time.monotonic()
if how == 'timeout':
    sock.settimeout(0.2)
    error = TimeoutError
elif how == 'signal':
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    error = KeyboardInterrupt
else:
    threading.Timer(0.2, sock.close).start()
    error = OSError
try:
    if which == 'server':
        sock.connect(('slow.example', 80))
    elif which == 'source':
        sock.connect(('127.0.0.1', 80), source_address=('slow.example', 0))
    elif which == 'proxy':
        sock.connect(
            ('server.test', 80), proxy=('http', 'slow.example', 80, None, None)
        )
    else:
        sock.connect(
            ('slow.example', 80), proxy=('socks5', '127.0.0.1', 80, None, None)
        )
except error as caught:
    if how == 'timeout':
        assert str(caught).startswith('look-up of '), caught
        assert str(caught).endswith('slow.example timed out'), caught
assert 0.1 < time.monotonic() - start < 10
assert sock.fileno() == -1
"""

SLOW_LOOK_UP = """
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
typedef int look_up(const char *, const char *, const struct addrinfo *,
                    struct addrinfo **);
int getaddrinfo(const char *host, const char *port,
                const struct addrinfo *hints, struct addrinfo **found)
{
    if (host != 0 && strcmp(host, "slow.example") == 0
        && !(hints->ai_flags & AI_NUMERICHOST)) {
        sleep(60);
    }
    look_up *real = (look_up *)dlsym(RTLD_NEXT, "getaddrinfo");
    return real(host, port, hints, found);
}
"""


@pytest.fixture(scope='module')
def slow_look_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes the look-up of a name hang."""
    directory = tmp_path_factory.mktemp('look-up')
    source, library = directory / 'slow.c', directory / 'slow.so'
    source.write_text(SLOW_LOOK_UP)
    command = [find_program('cc', 'gcc', 'clang'), '-D_GNU_SOURCE', '-shared']
    command += ['-fPIC', str(source), '-o', str(library), '-ldl']
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize('how', ['timeout', 'signal', 'close'])
@pytest.mark.parametrize('which', ['server', 'source', 'proxy', 'socks5'])
def test_look_up(slow_look_up: Path, how: str, which: str) -> None:
    preload = f'{os.environ.get("LD_PRELOAD", "")} {slow_look_up}'.strip()
    subprocess.run(
        [sys.executable, '-W', 'error', '-c', LOOK_UP, how, which],
        env=os.environ | {'LD_PRELOAD': preload},
        check=True,
        timeout=20,
    )


# --- other ends ---


def fail(
    stage: Stage, react: Callable[[socket.socket], object]
) -> BaseException:
    """What connect() raises where the peer does that."""

    def answer() -> None:
        sock, _ = stage.silent.accept()
        with sock:
            sock.recv(4096)
            react(sock)

    join = in_thread(answer)
    with stage.make() as sock:
        with pytest.raises(OSError) as caught:
            stage.connect(sock)
        assert sock.fileno() == -1
    assert join() is None
    return caught.value


def reset(sock: socket.socket) -> None:
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
    )


WITH_PEER = [name for name in STAGES if name != 'tcp']


@pytest.mark.parametrize('stage', WITH_PEER, indirect=True)
def test_peer_that_resets(stage: Stage) -> None:
    error = fail(stage, reset)
    assert (
        str(error)
        .removeprefix('[Errno 104] ')
        .startswith(f'{stage.said} failed: ')
    )
    if stage.context is None:
        assert isinstance(error, ConnectionResetError)
        assert isinstance(error, OSError)
        assert error.strerror == (
            f'{stage.said} failed: Connection reset by peer'
        )
    else:
        assert isinstance(error, twspy.SSLError)
        assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize('stage', WITH_PEER, indirect=True)
def test_peer_that_ends(stage: Stage) -> None:
    error = fail(stage, lambda sock: None)
    if 'TLS' in stage.said:
        assert isinstance(error, twspy.SSLError)
        assert str(error).startswith(f'{stage.said} failed: ')
    else:
        assert isinstance(error, twspy.HandshakeError)
        assert error.status is None
        assert 'closed the connection' in str(error)
        assert ('proxy' in str(error)) == ('proxy' in stage.said)


@pytest.mark.parametrize(
    'stage', ['tls', 'bridge', 'proxy-tls'], indirect=True
)
def test_peer_that_speaks_plain_http(stage: Stage) -> None:
    error = fail(
        stage, lambda sock: sock.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    )
    assert isinstance(error, twspy.SSLError)
    assert str(error).startswith(f'{stage.said} failed: ')


@pytest.mark.parametrize('stage', ['answer'], indirect=True)
def test_refusal_in_chunks(stage: Stage) -> None:
    """The connection stays open: its end tells nothing."""
    body: list[bytes] = []

    def refuse(sock: socket.socket) -> None:
        sock.sendall(
            b'HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n'
            b'5\r\nno, t\r\n6;x=y\r\nhanks\n\r\n0\r\n\r\n'
        )
        sock.settimeout(10)
        body.append(sock.recv(1))

    error = fail(stage, refuse)
    assert isinstance(error, twspy.HandshakeError)
    assert (error.status, error.body) == (403, b'no, thanks\n')
    assert body == [b'']


def test_failures_leave_nothing_behind(
    stage: Stage, no_sockets_left: None
) -> None:
    for _ in range(5):
        with stage.make(open_timeout=0.05) as sock:
            with pytest.raises(TimeoutError):
                stage.connect(sock)
