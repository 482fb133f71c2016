"""websocket(family=AF_UNSPEC): it has a socket once connect() has raced the
addresses of the host (RFC 8305)."""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from listeners import both_families, hanging, listen
from ports import free_port, refusing_port
from rawends import answer, in_thread, read_request
from rawpeer import TEXT, RawPeer, pack

import twspy
from twspy import Frame


def unbound(**options: Any) -> twspy.websocket:
    return twspy.websocket(family=socket.AF_UNSPEC, **options)


def serve(
    listener: socket.socket, behind: bytes = b''
) -> Callable[[], dict[str, str]]:
    """Accepts one client in a thread; the result waits for its end and gives
    the head of its request."""

    def run() -> dict[str, str]:
        sock, _ = listener.accept()
        with RawPeer(sock) as peer:
            _, head = read_request(peer)
            peer.send(answer(head) + behind)
            assert peer.sock.recv(1) == b''
            return head

    join = in_thread(run)

    def head() -> dict[str, str]:
        result = join()
        assert isinstance(result, dict), result
        return result

    return head


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=['ipv4', 'ipv6'])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with listen(request.param) as made:
        yield made


# --- without a socket ---


def test_before_connect() -> None:
    with unbound() as sock:
        assert sock.fileno() == -1
        assert sock.family == socket.AF_UNSPEC
        assert sock.type == socket.SOCK_STREAM
        assert sock.proto == 0
        assert sock.gettimeout() is None
        sock.settimeout(1.5)
        assert sock.gettimeout() == 1.5
        sock.setblocking(False)
        assert not sock.getblocking()
        assert sock.pending() == 0
        assert repr(sock) == '<twspy.websocket new>'
        assert not sock.secure
    assert sock.fileno() == -1
    assert 'closed' in repr(sock)
    with unbound(proto=socket.IPPROTO_TCP) as sock:
        assert sock.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    'call',
    [
        lambda sock: sock.bind(('127.0.0.1', 0)),
        lambda sock: sock.listen(),
        lambda sock: sock.accept(),
        lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1),
        lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        lambda sock: sock.getpeername(),
        lambda sock: sock.getsockname(),
        lambda sock: sock.shutdown(socket.SHUT_RDWR),
        lambda sock: sock.detach(),
        lambda sock: sock.handshake(),
        lambda sock: sock.recv(),
        lambda sock: sock.send(Frame(TEXT, 'x')),
    ],
)
def test_what_needs_a_socket(call: Callable[[Any], object]) -> None:
    with unbound() as sock:
        with pytest.raises(OSError, match='AF_UNSPEC') as caught:
            call(sock)
        assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(OSError, match='closed'):
        sock.connect(('127.0.0.1', 1))


def test_nothing_to_close_is_no_mistake() -> None:
    """A ResourceWarning would be an error."""
    unbound()


def test_default_timeout() -> None:
    socket.setdefaulttimeout(2.5)
    try:
        with unbound() as sock:
            assert sock.gettimeout() == 2.5
    finally:
        socket.setdefaulttimeout(None)


# --- connecting ---


@pytest.mark.parametrize('by_name', [True, False], ids=['name', 'figures'])
def test_one_family(listener: socket.socket, by_name: bool) -> None:
    """Afterwards it is as any other."""
    address, port = listener.getsockname()[:2]
    head = serve(listener, pack(TEXT, b'early', mask=False))
    with unbound() as sock:
        sock.settimeout(10)
        sock.connect(('' if by_name else address, port))
        assert sock.family == listener.family
        assert sock.type == socket.SOCK_STREAM
        assert sock.fileno() >= 0
        assert sock.gettimeout() == 10
        assert sock.getpeername()[:2] == (address, port)
        assert sock.getsockname()[0] == address
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert not os.get_inheritable(sock.fileno())
        assert sock.recv().payload == b'early'
        assert str(port) in repr(sock)
        with pytest.raises(OSError, match='connected already'):
            sock.connect((address, port))
    host = 'localhost' if by_name else address
    host = f'[{host}]' if ':' in host else host
    assert head()['host'] == f'{host}:{port}'


def test_both_families() -> None:
    """The one that the system prefers is tried first."""
    with both_families() as (ipv6, _):
        head = serve(ipv6)
        with unbound() as sock:
            sock.connect(('', ipv6.getsockname()[1]))
            assert sock.family == socket.AF_INET6
        head()


def test_dead_family() -> None:
    """IPv6 that leads nowhere costs 250 ms, not the timeout."""
    with both_families(backlog_of_ipv6=0) as (ipv6, ipv4), hanging(ipv6):
        head = serve(ipv4)
        with unbound() as sock:
            start = time.monotonic()
            sock.connect(('', ipv4.getsockname()[1]))
            assert 0.2 < time.monotonic() - start < 5
            assert sock.family == socket.AF_INET
        head()


def test_nobody_listens() -> None:
    with refusing_port() as port, unbound() as sock:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError) as caught:
                sock.connect(('', port))
            assert caught.value.errno == errno.ECONNREFUSED
            assert caught.value.strerror == (
                f'connect to localhost:{port} failed: Connection refused '
                '(::1, 127.0.0.1)'
            )
            assert sock.fileno() == -1
            assert sock.family == socket.AF_UNSPEC
        with listen(socket.AF_INET) as listener:
            head = serve(listener)
            sock.connect(('', listener.getsockname()[1]))
            sock.close()
            head()


def test_unknown_host() -> None:
    with unbound() as sock:
        with pytest.raises(socket.gaierror, match='no-such-host') as caught:
            sock.connect(('no-such-host.invalid', 80))
        assert caught.value.errno < 0
        assert sock.fileno() == -1


def test_endless_wait_has_an_end() -> None:
    with listen(socket.AF_INET, backlog=0) as listener, hanging(listener):
        address = listener.getsockname()
        with unbound(open_timeout=0.2) as sock:
            with pytest.raises(
                TimeoutError, match=rf'^connect to 127.0.0.1:{address[1]} '
            ):
                sock.connect(address)
            assert sock.fileno() == -1


def test_nonblocking(listener: socket.socket) -> None:
    """It waits until there is a socket to wait for."""
    address = listener.getsockname()[:2]
    with unbound() as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError) as caught:
            sock.connect(address)
        assert caught.value.errno == errno.EAGAIN  # the request has left
        fd = sock.fileno()
        assert fd >= 0
        assert sock.family == listener.family
        with RawPeer(listener.accept()[0]) as peer:
            peer.send(answer(read_request(peer)[1]))
            assert select.select([fd], [], [], 10)[0]
            sock.connect(address)
            assert sock.fileno() == fd
            assert not sock.getblocking()


def test_failures_leave_nothing_behind() -> None:
    process = psutil.Process()
    with (
        refusing_port() as port,
        both_families(backlog_of_ipv6=0) as (ipv6, ipv4),
        hanging(ipv6),
    ):

        def fail() -> None:
            with unbound() as sock:
                with pytest.raises(ConnectionRefusedError):
                    sock.connect(('', port))
                with pytest.raises(socket.gaierror):
                    sock.connect(('no-such-host.invalid', 80))
            with unbound(open_timeout=0.05) as sock:
                with pytest.raises(TimeoutError):
                    sock.connect(('::1', ipv6.getsockname()[1]))
            with unbound(open_timeout=0.05) as sock:
                with pytest.raises(TimeoutError):
                    sock.connect(ipv4.getsockname())  # it does not answer

        fail()
        before = process.num_fds()
        for _ in range(10):
            fail()
        assert process.num_fds() == before


# --- the source address ---


@pytest.mark.parametrize('family', [socket.AF_UNSPEC, socket.AF_INET])
@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', ''])
def test_source_address(family: int, host: str) -> None:
    port = free_port()
    with listen(socket.AF_INET) as listener:
        head = serve(listener)
        with twspy.websocket(family=family) as sock:
            sock.connect(listener.getsockname(), source_address=(host, port))
            assert sock.getsockname() == ('127.0.0.1', port)
        head()


def test_source_address_decides_the_family() -> None:
    with both_families() as (_, ipv4):
        head = serve(ipv4)
        with unbound() as sock:
            sock.connect(
                ('', ipv4.getsockname()[1]), source_address=('127.0.0.1', 0)
            )
            assert sock.family == socket.AF_INET
        head()


def test_source_address_of_a_retry() -> None:
    with refusing_port() as port, twspy.websocket() as sock:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                sock.connect(
                    ('127.0.0.1', port), source_address=('127.0.0.1', 0)
                )


@pytest.mark.parametrize('family', [socket.AF_UNSPEC, socket.AF_INET])
def test_source_address_of_another_machine(family: int) -> None:
    with listen(socket.AF_INET) as listener:
        with twspy.websocket(family=family) as sock:
            with pytest.raises(OSError, match='source address: ') as caught:
                sock.connect(
                    listener.getsockname(), source_address=('192.0.2.1', 0)
                )
            assert caught.value.errno == errno.EADDRNOTAVAIL


def test_source_address_of_another_family() -> None:
    with unbound() as sock:
        with pytest.raises(OSError, match="source address's family"):
            sock.connect(('127.0.0.1', 1), source_address=('::1', 0))
    with twspy.websocket() as sock:
        with pytest.raises(socket.gaierror, match='source address ::1'):
            sock.connect(('127.0.0.1', 1), source_address=('::1', 0))


@pytest.mark.parametrize(
    ('source', 'error'),
    [
        ('127.0.0.1', TypeError),
        (('127.0.0.1',), TypeError),
        (('127.0.0.1', '0'), TypeError),
        ((None, 0), TypeError),
        (('127.0.0.1', 65536), OverflowError),
    ],
)
def test_bad_source_address(source: Any, error: type[Exception]) -> None:
    with unbound() as sock, pytest.raises(error):
        sock.connect(('127.0.0.1', 1), source_address=source)


def test_source_address_is_not_for_unix_sockets() -> None:
    with twspy.websocket(family=socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match='AF_UNIX'):
            sock.connect('/none', source_address=('127.0.0.1', 0))
