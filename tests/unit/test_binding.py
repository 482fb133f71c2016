"""What a server may be bound to, before it runs: addresses, paths, and
sockets that exist."""

from __future__ import annotations

import errno
import gc
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import twspy
from twspy._binding import bind, format_address


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A short path, whatever directory the tests have."""
    monkeypatch.chdir(tmp_path)
    yield './app.sock'
    assert not os.path.exists('./app.sock'), 'the file was left behind'


def bound(name: Any, family: int = socket.AF_UNIX) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(name)
    return sock


# --- paths ---


@pytest.mark.parametrize('kind', [str, os.fsencode, Path])
def test_path(path: str, kind: Callable[[str], Any]) -> None:
    server = twspy.Server(kind(path))
    assert stat.S_ISSOCK(os.lstat(path).st_mode)
    assert os.path.samefile(server.address, path)
    assert isinstance(server.address, str)
    server.stop()
    server.stop()
    assert not os.path.exists(path)


def test_a_file_is_removed_from_another_directory(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = twspy.Server(path)
    monkeypatch.chdir('/')
    server.stop()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)


def test_stale_file_is_replaced(path: str) -> None:
    bound(path).close()
    before = os.lstat(path)
    server = twspy.Server(path)
    assert os.lstat(path).st_mtime_ns != before.st_mtime_ns
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        server.stop()


def test_live_socket_is_in_use(path: str) -> None:
    # Before the server runs, while it does, and as another program's.
    server = twspy.Server(path)
    for begin in (lambda: None, server.start):
        begin()
        with pytest.raises(OSError, match='somebody listens on') as caught:
            twspy.Server(path)
        assert caught.value.errno == errno.EADDRINUSE
        assert path in str(caught.value)
    server.stop()
    with bound(path) as other:
        other.listen(0)
        # The second finds a full queue.
        for _ in range(2):
            with pytest.raises(OSError, match='somebody listens on'):
                twspy.Server(path)
    os.unlink(path)


@pytest.mark.parametrize('kind', ['file', 'directory', 'link', 'fifo'])
def test_other_files_are_left_alone(path: str, kind: str) -> None:
    if kind == 'file':
        Path(path).write_text('precious')
    elif kind == 'directory':
        os.mkdir(path)
    elif kind == 'fifo':
        os.mkfifo(path)
    else:
        bound('./stale').close()
        os.symlink('stale', path)
    before = os.lstat(path)
    with pytest.raises(OSError, match='not a socket') as caught:
        twspy.Server(path)
    assert caught.value.errno == errno.EADDRINUSE
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    os.rename(path, './moved')


def test_datagram_socket_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(OSError, match='cannot be told') as caught:
            twspy.Server(path)
        assert caught.value.errno == errno.EADDRINUSE
    assert os.path.exists(path)
    os.unlink(path)


def test_a_file_that_took_its_place_stays(path: str) -> None:
    server = twspy.Server(path)
    os.unlink(path)
    with bound(path):
        server.stop()
        assert os.path.exists(path)
    os.unlink(path)
    # Nor does it matter where it is gone.
    server = twspy.Server(path)
    os.unlink(path)
    server.stop()


def test_wrong_options_leave_nothing_behind(path: str) -> None:
    with pytest.raises(TypeError, match='nonsense'):
        twspy.Server(path, nonsense=1)
    assert not os.path.exists(path)


def test_a_forked_process_does_not_remove_the_file(path: str) -> None:
    program = (
        'import os, twspy\n'
        f'server = twspy.Server({path!r})\n'
        'if os.fork() == 0:\n'
        '    server.stop()\n'
        '    os._exit(0)\n'
        'os.wait()\n'
        f'assert os.path.exists({path!r})\n'
        'server.stop()\n'
    )
    subprocess.run([sys.executable, '-c', program], check=True, timeout=30)


def test_longest_path(path: str) -> None:
    limit = 107 if sys.platform == 'linux' else 103
    longest = './' + 'x' * (limit - 2)
    server = twspy.Server(longest)
    assert server.address == longest
    server.stop()
    with pytest.raises(ValueError, match=f'{limit + 1} bytes.* {limit}'):
        twspy.Server(longest + 'x')
    with pytest.raises(ValueError, match=f'{limit + 1} bytes.* {limit}'):
        twspy.Server(longest[:-1] + 'ä')  # bytes count, not characters


@pytest.mark.parametrize('name', ['\0{}', b'\0{}'])
def test_abstract_name(name: str | bytes) -> None:
    plain = f'twspy-{os.getpid()}'
    name = (
        name.format(plain)
        if isinstance(name, str)
        else name.replace(b'{}', plain.encode())
    )
    server = twspy.Server(name)
    assert server.address == b'\0' + plain.encode()
    with pytest.raises(OSError, match=f'unix:@{plain}') as caught:
        twspy.Server(name)
    assert caught.value.errno == errno.EADDRINUSE
    server.stop()
    twspy.Server(name).stop()
    longest = '\0' + 'x' * 107
    twspy.Server(longest).stop()
    with pytest.raises(ValueError, match=r'109 bytes.* 108'):
        twspy.Server(longest + 'x')


@pytest.mark.parametrize(
    'address', ['', b'', '\0', 'localhost', 'localhost:8000', './a\0b']
)
def test_what_is_no_path(address: str | bytes) -> None:
    with pytest.raises(ValueError, match='address is '):
        twspy.Server(address)


@pytest.mark.parametrize('address', [(), ('',), ('', 1, 2), 8000, 1.5, {}])
def test_what_is_no_address(address: Any) -> None:
    with pytest.raises(TypeError, match=r"address is .*'\./app\.sock'"):
        twspy.Server(address)


def test_missing_directory() -> None:
    with pytest.raises(FileNotFoundError, match=r'unix:/nowhere/app\.sock'):
        twspy.Server('/nowhere/app.sock')


# --- hosts and ports ---


def test_port_is_shared_where_all_say_so() -> None:
    with bind(('127.0.0.1', 0), reuse_port=True) as one:
        address = one.getsockname()
        one.listen()
        bind(address, reuse_port=True).close()
        with pytest.raises(OSError, match=f'127.0.0.1:{address[1]}') as caught:
            bind(address)
        assert caught.value.errno == errno.EADDRINUSE


def test_port_cannot_be_shared(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match='not a port'):
        bind(path, reuse_port=True)
    monkeypatch.delattr(socket, 'SO_REUSEPORT')
    with pytest.raises(OSError, match='SO_REUSEPORT') as caught:
        bind(('127.0.0.1', 0), reuse_port=True)
    assert caught.value.errno == errno.ENOPROTOOPT


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, *hosts: tuple[int, Any]
) -> None:
    monkeypatch.setattr(
        socket,
        'getaddrinfo',
        lambda *args, **options: [
            (family, socket.SOCK_STREAM, 0, '', sockaddr)
            for family, sockaddr in hosts
        ],
    )


IPV4 = (socket.AF_INET, ('127.0.0.1', 0))
IPV6 = (socket.AF_INET6, ('::1', 0, 0, 0))
# TEST-NET-1 and the prefix for documentation: nobody has these.
NOT_HERE = (socket.AF_INET, ('192.0.2.1', 0))
NOT_HERE_EITHER = (socket.AF_INET6, ('2001:db8::1', 0, 0, 0))


@pytest.mark.parametrize(
    ('found', 'expected'),
    [
        ((IPV6, IPV4), '127.0.0.1'),
        ((IPV6,), '::1'),
        ((NOT_HERE, IPV4), '127.0.0.1'),
        ((IPV6, NOT_HERE), '::1'),
    ],
)
def test_one_address_of_a_name(
    found: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, *found)
    with bind(('localhost', 0)) as sock:
        assert sock.getsockname()[0] == expected


def test_no_address_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, NOT_HERE, NOT_HERE_EITHER)
    with pytest.raises(OSError, match=r'192\.0\.2\.1:0') as caught:
        bind(('elsewhere', 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL
    monkeypatch.undo()
    with pytest.raises(socket.gaierror, match=r"'no\.such\.invalid'"):
        bind(('no.such.invalid', 0))


def test_taken_port_is_not_evaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with bind(('127.0.0.1', 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        resolve_to(
            monkeypatch,
            (socket.AF_INET, ('127.0.0.1', port)),
            (socket.AF_INET6, ('::1', port, 0, 0)),
        )
        with pytest.raises(OSError, match=f'127.0.0.1:{port}') as caught:
            bind(('localhost', port))
        assert caught.value.errno == errno.EADDRINUSE


def test_ipv6_only_but_for_all_addresses() -> None:
    for host, only in (('::1', 1), ('::', 0)):
        with bind((host, 0)) as sock:
            found = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert found == only


def test_what_address_gives_can_be_bound() -> None:
    for host in ('127.0.0.1', '::1'):
        server = twspy.Server((host, 0))
        server.stop()
        again = twspy.Server(server.address)
        assert again.address == server.address
        again.stop()


def test_link_local_addresses_have_an_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(OSError, match=r"interface: 'fe80::1%eth0'"):
        bind(('fe80::1', 0))
    number = socket.if_nametoindex('lo')
    # Its number is taken over, or it would be the error from above.
    for address in (('fe80::1%lo', 0), ('fe80::1', 0, 0, number)):
        with pytest.raises(OSError, match=r'\[fe80::1%lo\]:0') as caught:
            bind(address)  # type: ignore[arg-type]
        assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ('address', 'text'),
    [
        (('', 80), ':80'),
        (('127.0.0.1', 80), '127.0.0.1:80'),
        (('::1', 80, 0, 0), '[::1]:80'),
        (('fe80::1', 80, 0, 4000000), '[fe80::1%4000000]:80'),
        ('/run/app.sock', 'unix:/run/app.sock'),
        (b'\0name', 'unix:@name'),
        (b'\0a\0\n', "unix:@'a\\x00\\n'"),
        ('/a\nb', "unix:'/a\\nb'"),
        (os.fsdecode(b'/\xff'), "unix:'/\\udcff'"),
    ],
)
def test_names_for_people(address: Any, text: str) -> None:
    assert format_address(address) == text


def test_repr_and_name(path: str) -> None:
    server = twspy.Server(path)
    assert repr(server) == f'<Server {path!r} not started>'
    server.stop()


# --- sockets that exist ---


def test_socket_is_taken_over() -> None:
    for listens in (False, True):
        sock = bound(('127.0.0.1', 0), socket.AF_INET)
        if listens:
            sock.listen()
        number, address = sock.fileno(), sock.getsockname()
        server = twspy.Server(sock=sock)
        assert sock.fileno() == -1
        assert server.address == address
        server.stop()
        with pytest.raises(OSError, match='Bad file descriptor'):
            os.fstat(number)


def test_file_of_a_socket_is_its_makers(path: str) -> None:
    server = twspy.Server(sock=bound(path))
    server.stop()
    assert os.path.exists(path)
    os.unlink(path)


def test_wrong_options_leave_the_socket(path: str) -> None:
    with bound(('127.0.0.1', 0), socket.AF_INET) as sock:
        number = sock.fileno()
        with pytest.raises(TypeError, match='nonsense'):
            twspy.Server(sock=sock, nonsense=1)
        assert sock.fileno() == number
        sock.listen()
        with pytest.raises(TypeError, match='both'):
            twspy.Server(('', 0), sock=sock)
        with pytest.raises(TypeError, match='positional'):
            twspy.Server(None, 20, None, 2.0, sock)  # type: ignore[misc]
        assert sock.fileno() == number


def ssl_socket() -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain = bound(('127.0.0.1', 0), socket.AF_INET)
    return context.wrap_socket(plain, server_side=True)


def closed_socket() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def connected_socket() -> socket.socket:
    one, two = socket.socketpair()
    two.close()
    return one


@pytest.mark.parametrize(
    ('make', 'kind', 'advice'),
    [
        (lambda: 5, TypeError, 'sock is int, expected a socket.socket'),
        (ssl_socket, TypeError, 'before it is wrapped'),
        (closed_socket, OSError, 'sock is closed'),
        (connected_socket, ValueError, r'handshake\(server=True\)'),
        (socket.socket, ValueError, r'sock\.bind\(address\)'),
        (
            lambda: socket.socket(socket.AF_UNIX),
            ValueError,
            r'sock\.bind\(address\)',
        ),
        (
            lambda: socket.socket(type=socket.SOCK_DGRAM),
            ValueError,
            r'SOCK_DGRAM, expected a stream socket \(SOCK_STREAM\)',
        ),
    ],
)
def test_socket_that_cannot_listen(
    make: Callable[[], Any], kind: type[Exception], advice: str
) -> None:
    sock = make()
    number = sock if isinstance(sock, int) else sock.fileno()
    with pytest.raises(kind, match=advice):
        twspy.Server(sock=sock)
    if not isinstance(sock, int):
        gc.collect()  # another object for the descriptor would close it
        assert sock.fileno() == number
        if number >= 0:
            os.fstat(number)
        sock.close()


def test_socket_of_another_family() -> None:
    try:
        sock = socket.socket(socket.AF_VSOCK)
    except (AttributeError, OSError):
        # Not every kernel has it; every one has netlink's, of another type.
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    with sock, pytest.raises(ValueError, match=r'AF_VSOCK|SOCK_RAW'):
        twspy.Server(sock=sock)
