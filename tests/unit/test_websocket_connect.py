"""websocket.connect() and handshake(): the client's side of the opening
handshake, and either side on a socket that is connected already."""

import errno
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import find_program
from ports import refusing_port
from rawends import answer, read_request, tcp_pair
from rawpeer import TEXT, RawPeer, pack

import twspy
from twspy import Frame, HandshakeError


class Server:
    """Takes one connection after the other and does with it as told."""

    def __init__(
        self, family: int = socket.AF_INET, host: str = '127.0.0.1'
    ) -> None:
        self.sock = socket.create_server((host, 0), family=family)
        self.port = self.sock.getsockname()[1]
        self.thread: threading.Thread | None = None
        self.head: dict[str, str] = {}
        self.first = ''

    def serve(
        self, react: Callable[[RawPeer, dict[str, str]], object]
    ) -> None:
        def run() -> None:
            sock, _ = self.sock.accept()
            with RawPeer(sock) as peer:
                try:
                    self.first, self.head = read_request(peer)
                    react(peer, self.head)
                    while True:
                        peer.read_more()
                except (EOFError, OSError):
                    pass  # the client has seen enough

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def say(self, data: bytes) -> None:
        """Answers one request with these bytes and ends."""

        def react(peer: RawPeer, head: dict[str, str]) -> None:
            peer.send(data)
            peer.sock.shutdown(socket.SHUT_WR)

        self.serve(react)

    def welcome(self, behind: bytes = b'', **fields: str) -> None:
        """Answers one request with a good 101."""
        self.serve(
            lambda peer, head: peer.send(answer(head, **fields) + behind)
        )

    def close(self) -> None:
        self.sock.close()
        if self.thread is not None:
            self.thread.join(10)
            assert not self.thread.is_alive()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def refused(sock: twspy.websocket, server: Server) -> HandshakeError:
    with sock, pytest.raises(HandshakeError) as caught:
        sock.connect(('127.0.0.1', server.port))
    assert sock.fileno() == -1
    return caught.value


# --- good answers ---


def test_request_and_result(server: Server) -> None:
    server.welcome(X_Extra='yes')
    with twspy.websocket(location='/chat?room=1') as sock:
        assert (sock.location, sock.request, sock.response) == (
            '/chat?room=1',
            None,
            None,
        )
        sock.connect(('127.0.0.1', server.port))
        assert server.first == 'GET /chat?room=1 HTTP/1.1'
        assert server.head['host'] == f'127.0.0.1:{server.port}'
        assert server.head['upgrade'] == 'websocket'
        assert server.head['connection'] == 'Upgrade'
        assert server.head['sec-websocket-version'] == '13'
        assert len(server.head['sec-websocket-key']) == 24
        assert len(server.head) == 5
        assert sock.location == '/chat?room=1'
        assert sock.protocol is None
        assert sock.response.status == 101
        assert sock.response.headers['x-extra'] == 'yes'
        assert sock.request.target == '/chat?room=1'
        assert sock.request.headers['HOST'] == server.head['host']
        assert sock.getpeername() == ('127.0.0.1', server.port)


def test_options_are_asked_for(server: Server) -> None:
    server.welcome(Sec_WebSocket_Protocol='b')
    with twspy.websocket(
        protocols=['a', 'b'],
        origin='https://example.com',
        headers=[('X-A', '1'), ('Cookie', 'c=d')],
    ) as sock:
        sock.connect(('127.0.0.1', server.port))
        assert server.head['sec-websocket-protocol'] == 'a, b'
        assert server.head['origin'] == 'https://example.com'
        assert (server.head['x-a'], server.head['cookie']) == ('1', 'c=d')
        assert sock.protocol == 'b'


def test_keys_differ(server: Server) -> None:
    keys = set()
    for _ in range(5):
        server.welcome()
        with twspy.websocket() as sock:
            sock.connect(('127.0.0.1', server.port))
        assert server.thread is not None
        server.thread.join()
        keys.add(server.head['sec-websocket-key'])
    assert len(keys) == 5


def test_frames_right_behind_the_answer(server: Server) -> None:
    server.welcome(behind=pack(TEXT, b'early', mask=False) * 2)
    with twspy.websocket() as sock:
        sock.connect(('127.0.0.1', server.port))
        assert [f.payload for f in sock.recvn(2)] == [b'early'] * 2


def test_answer_a_byte_at_a_time_after_an_interim_one(server: Server) -> None:
    def react(peer: RawPeer, head: dict[str, str]) -> None:
        wire = b'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n' + answer(head)
        for i in range(len(wire)):
            peer.send(wire[i : i + 1])

    server.serve(react)
    with twspy.websocket() as sock:
        sock.connect(('127.0.0.1', server.port))
        assert sock.response.status == 101


@pytest.mark.parametrize('host', ['', 'localhost', b'localhost'])
def test_names_of_this_machine(server: Server, host: Any) -> None:
    server.welcome()
    with twspy.websocket() as sock:
        sock.connect((host, server.port))
        assert sock.getpeername() == ('127.0.0.1', server.port)
        name = '127.0.0.1' if host == '' else 'localhost'
        assert server.head['host'] == f'{name}:{server.port}'


@pytest.mark.parametrize('host', ['', '::1'])
def test_ipv6(host: str) -> None:
    server = Server(socket.AF_INET6, '::1')
    server.welcome()
    with twspy.websocket(family=socket.AF_INET6) as sock:
        sock.connect((host, server.port))
        assert sock.getpeername()[:2] == ('::1', server.port)
        assert server.head['host'] == f'[::1]:{server.port}'
    server.close()


def test_handshake_over_tcp_with_ourselves() -> None:
    with twspy.websocket() as listener:
        listener.bind(('', 0))
        listener.listen()
        address = ('', listener.getsockname()[1])
        accepted: list[twspy.websocket] = []
        thread = threading.Thread(
            target=lambda: accepted.append(listener.accept())
        )
        thread.start()
        with twspy.websocket() as sock:
            sock.connect(address)
            thread.join()
            sock.send(Frame(TEXT, 'Hello, Server!'))
            (client,) = accepted
            assert client.recv().payload == b'Hello, Server!'
            client.send(Frame(TEXT, 'Hello, Client!'))
            assert sock.recv().payload == b'Hello, Client!'
            client.close()


# --- bad answers ---


def test_refusal_with_a_body(server: Server) -> None:
    body = b'no, thank you\n'
    server.say(
        b'HTTP/1.1 403 Forbidden\r\nX-Why: a\r\nX-Why: b\r\n'
        b'Content-Length: %d\r\n\r\n' % len(body) + body + b'not part of it'
    )
    error = refused(twspy.websocket(), server)
    assert error.status == 403
    assert error.headers['x-WHY'] == 'a'
    assert error.headers.get_all('x-why') == ['a', 'b']  # type: ignore[attr-defined]
    assert error.body == body
    assert 'Forbidden' in str(error)
    assert '403' in str(error)
    assert isinstance(error, ConnectionError)


def test_refusal_without_a_length(server: Server) -> None:
    server.say(b'HTTP/1.1 500 Oops\r\n\r\nall of this')
    error = refused(twspy.websocket(), server)
    assert (error.status, error.body) == (500, b'all of this')


def test_refusal_with_an_endless_body(server: Server) -> None:
    server.say(b'HTTP/1.1 500 Oops\r\n\r\n' + bytes(1 << 20))
    error = refused(twspy.websocket(), server)
    assert (error.status, error.body) == (500, bytes(1 << 16))


def test_refusal_whose_body_does_not_come(server: Server) -> None:
    server.serve(
        lambda peer, head: peer.send(
            b'HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nsome'
        )
    )
    start = time.monotonic()
    error = refused(twspy.websocket(close_timeout=0.2), server)
    assert 0.15 < time.monotonic() - start < 5
    assert (error.status, error.body) == (404, b'some')


def test_message_is_fit_for_a_log(server: Server) -> None:
    server.say(b'HTTP/1.1 400 \x1b\xff\tBad\r\n\r\n')
    assert str(refused(twspy.websocket(), server)).isprintable()


WRONG = {
    'no upgrade': {'Upgrade': 'h2c'},
    'no connection': {'Connection': 'close'},
    'wrong key': {'Sec_WebSocket_Accept': 'x' * 28},
    'protocol not asked for': {'Sec_WebSocket_Protocol': 'c'},
    'extension not asked for': {
        'Sec_WebSocket_Extensions': 'permessage-deflate'
    },
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_101(server: Server, name: str) -> None:
    server.welcome(**WRONG[name])
    error = refused(twspy.websocket(protocols=['a', 'b']), server)
    assert error.status == 101
    assert next(iter(WRONG[name].values()))[:5] in str(error)


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'HTTP/1.1 101 Switch',
        b'SSH-2.0-OpenSSH\r\n\r\n',
        b'HTTP/1.1 101 x\nUpgrade: websocket\n\n',
        b'HTTP/1.1 101 x\r\nX: ' + b'x' * 17000 + b'\r\n\r\n',
    ],
)
def test_no_answer_at_all(server: Server, data: bytes) -> None:
    server.say(data)
    error = refused(twspy.websocket(), server)
    assert error.status is None
    assert error.body == b''
    assert len(str(error)) > 10


def test_reset_instead_of_an_answer(server: Server) -> None:
    server.serve(lambda peer, head: peer.reset())
    with twspy.websocket() as sock:
        with pytest.raises(ConnectionResetError):
            sock.connect(('127.0.0.1', server.port))
        assert sock.fileno() == -1


# --- no connection ---


def test_connection_refused_can_be_tried_again(server: Server) -> None:
    with twspy.websocket() as sock:
        for _ in range(2):
            with (
                refusing_port() as port,
                pytest.raises(ConnectionRefusedError),
            ):
                sock.connect(('127.0.0.1', port))
        server.welcome()
        sock.connect(('127.0.0.1', server.port))
        assert sock.response.status == 101


def test_unknown_host() -> None:
    with twspy.websocket() as sock:
        with pytest.raises(socket.gaierror) as caught:
            sock.connect(('no-such-host.invalid', 80))
        assert caught.value.errno < 0
        with pytest.raises(socket.gaierror):
            sock.connect(('::1', 80))  # not an AF_INET address


@pytest.mark.parametrize(
    ('address', 'error'),
    [
        ('localhost:80', TypeError),
        (('localhost',), TypeError),
        (('localhost', '80'), TypeError),
        ((None, 80), TypeError),
        (('localhost', -1), OverflowError),
        (('localhost', 65536), OverflowError),
        (('a\0b', 80), ValueError),
        (('a' * 300, 80), ValueError),
        (('a b', 80), ValueError),
    ],
)
def test_bad_address(address: Any, error: type[Exception]) -> None:
    with twspy.websocket() as sock:
        with pytest.raises(error):
            sock.connect(address)
        assert sock.fileno() >= 0


def test_unix_path_too_long() -> None:
    with twspy.websocket(family=socket.AF_UNIX) as sock:
        with pytest.raises(OSError, match='too long'):
            sock.connect('x' * 200)
        with pytest.raises(FileNotFoundError):
            sock.connect('/no/such/socket')


def test_header_of_the_handshake_itself() -> None:
    with twspy.websocket(headers={'Host': 'x'}) as sock:
        with pytest.raises(ValueError, match='Host'):
            sock.connect(('127.0.0.1', 1))


# --- time ---


@pytest.mark.parametrize('by', ['timeout', 'open_timeout'])
def test_silent_server(server: Server, by: str) -> None:
    options = {'open_timeout': 0.2} if by == 'open_timeout' else {}
    with twspy.websocket(**options) as sock:
        sock.settimeout(0.2 if by == 'timeout' else 10)
        start = time.monotonic()
        with pytest.raises(TimeoutError, match='timed out'):
            sock.connect(('127.0.0.1', server.port))
        assert 0.15 < time.monotonic() - start < 5
        assert sock.fileno() == -1
        with pytest.raises(OSError, match='closed'):
            sock.connect(('127.0.0.1', server.port))


def test_dribbling_does_not_extend_the_deadline(server: Server) -> None:
    def react(peer: RawPeer, head: dict[str, str]) -> None:
        peer.send(b'HTTP/1.1 101 x\r\n')
        for _ in range(100):
            peer.send(b'X-A: b\r\n')
            time.sleep(0.02)

    server.serve(react)
    with twspy.websocket(open_timeout=0.3) as sock:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            sock.connect(('127.0.0.1', server.port))
        assert time.monotonic() - start < 1.5


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that takes no more connections: connect() hangs."""
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(0)
    others = []
    for _ in range(3):
        other = socket.socket()
        other.setblocking(False)
        other.connect_ex(listener.getsockname())
        others.append(other)
    time.sleep(0.05)
    return listener, others


def test_connecting_times_out() -> None:
    listener, others = full_backlog()
    with twspy.websocket() as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError, match='connect'):
            sock.connect(listener.getsockname())
        assert sock.fileno() == -1
    for other in [listener, *others]:
        other.close()


def test_nonblocking(server: Server) -> None:
    """The call is repeated until it returns; its errno says what to wait
    for."""
    go = threading.Event()

    def react(peer: RawPeer, head: dict[str, str]) -> None:
        wire = answer(head)
        peer.send(wire[:40])
        go.wait(10)
        peer.send(wire[40:] + pack(TEXT, b'x', mask=False))

    server.serve(react)
    with twspy.websocket() as sock:
        sock.setblocking(False)
        fd = sock.fileno()
        waits: list[int | None] = []
        while True:
            try:
                sock.connect(('127.0.0.1', server.port))
                break
            except BlockingIOError as error:
                waits.append(error.errno)
            assert sock.fileno() == fd
            with pytest.raises(OSError, match='not finished'):
                sock.recv()
            if waits[-1] == errno.EINPROGRESS:
                assert select.select([], [fd], [], 10)[1]
            else:
                assert waits[-1] == errno.EAGAIN
                select.select([fd], [], [], 0.05)
            if len(waits) > 4:
                go.set()
        assert errno.EAGAIN in waits
        assert sock.gettimeout() == 0
        sock.settimeout(10)
        assert sock.recv().payload == b'x'


def test_nonblocking_refusal(server: Server) -> None:
    server.say(b'HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nbody')
    with twspy.websocket() as sock:
        sock.setblocking(False)
        for _ in range(1000):
            try:
                sock.connect(('127.0.0.1', server.port))
            except BlockingIOError:
                time.sleep(0.005)
            except HandshakeError as error:
                assert (error.status, error.body) == (404, b'body')
                break
        assert sock.fileno() == -1


def test_nonblocking_has_a_deadline_too(server: Server) -> None:
    with twspy.websocket(open_timeout=0.1) as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(('127.0.0.1', server.port))
        time.sleep(0.15)
        with pytest.raises(TimeoutError):
            sock.connect(('127.0.0.1', server.port))
        assert sock.fileno() == -1


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

LOOK_UP = """
import signal, sys, threading, time, twspy
sock = twspy.websocket()
start = time.monotonic()
if sys.argv[1] == 'timeout':
    sock.settimeout(0.2)
    error = TimeoutError
elif sys.argv[1] == 'signal':
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    error = KeyboardInterrupt
else:
    threading.Timer(0.2, sock.close).start()
    error = OSError
try:
    sock.connect(('slow.example', 80))
except error:
    pass
assert 0.1 < time.monotonic() - start < 10
assert sock.fileno() == -1
"""


@pytest.fixture(scope='module')
def slow_look_up(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that makes the look-up of a name hang."""
    directory = tmp_path_factory.mktemp('look-up')
    source, library = directory / 'slow.c', directory / 'slow.so'
    source.write_text(SLOW_LOOK_UP)
    command = [find_program('cc', 'gcc', 'clang'), '-D_GNU_SOURCE', '-shared']
    command += ['-fPIC', str(source), '-o', str(library), '-ldl']
    subprocess.run(command, check=True)
    return str(library)


@pytest.mark.parametrize('how', ['timeout', 'signal', 'close'])
def test_slow_look_up_is_left_behind(slow_look_up: str, how: str) -> None:
    """It can't be interrupted; nobody waits for it, nor does the end of the
    process."""
    preload = f'{os.environ.get("LD_PRELOAD", "")} {slow_look_up}'.strip()
    subprocess.run(
        [sys.executable, '-W', 'error', '-c', LOOK_UP, how],
        env=os.environ | {'LD_PRELOAD': preload},
        check=True,
        timeout=20,
    )


def test_close_wakes_connect(server: Server) -> None:
    with twspy.websocket() as sock:
        errors: list[BaseException] = []

        def connect() -> None:
            try:
                sock.connect(('127.0.0.1', server.port))
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        time.sleep(0.2)
        with pytest.raises(twspy.ConcurrencyError):
            sock.connect(('127.0.0.1', server.port))
        fd = sock.fileno()
        sock.close()
        thread.join(10)
        assert not thread.is_alive()
        assert len(errors) == 1
        with pytest.raises(OSError, match='Bad file descriptor'):
            os.fstat(fd)


def test_failures_leave_nothing_behind(server: Server) -> None:
    process = psutil.Process()

    def fail() -> None:
        with twspy.websocket() as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect(('127.0.0.1', refusing))
            with pytest.raises(socket.gaierror):
                sock.connect(('no-such-host.invalid', 80))
        with twspy.websocket() as sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.connect(('127.0.0.1', server.port))

    with refusing_port() as refusing:
        fail()
        before = process.num_fds()
        for _ in range(30):
            fail()
        # Fewer: a thread of a test before may have ended meanwhile.
        assert process.num_fds() <= before


def test_connect_of_a_connected_one() -> None:
    one, two = tcp_pair()
    with twspy.websocket(one) as sock, two:
        with pytest.raises(OSError) as caught:
            sock.connect(('127.0.0.1', 1))
        assert caught.value.errno == errno.EISCONN


def test_unix_connection(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with twspy.websocket(family=socket.AF_UNIX) as sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.connect(path)
            peer = RawPeer(listener.accept()[0])
            peer.send(answer(read_request(peer)[1]))
            sock.connect(path)
            assert sock.getpeername() == path
            peer.close()
