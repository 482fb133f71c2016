"""Where a server listens: addresses, paths, sockets that exist already."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._activation import count_passed, listen_fds

PathName = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Address = tuple[str, int] | tuple[str, int, int, int] | PathName

_UNIX = getattr(socket, 'AF_UNIX', None)

# Of a Unix socket that takes clients before the server runs, see bind().
_BACKLOG = 1024

# Bytes that a Unix socket's name may have: the size of sun_path. The NUL that
# ends a path, or begins an abstract name, is one of them.
_NAME_SIZE = 108 if sys.platform == 'linux' else 104


class Listener:
    """A bound socket of a server, and the file that goes with it.

    shareable: bound here, to a port, so that others can be bound beside it. A
    Unix socket can't share its name, and how others have made theirs is not
    known.
    """

    def __init__(
        self,
        sock: socket.socket,
        file: _File | None = None,
        shareable: bool = False,
    ) -> None:
        self.sock = sock
        self.shareable = shareable
        self._file = file
        self._more: list[socket.socket] = []

    @property
    def name(self) -> str:
        """The address for people."""
        return format_address(self.sock.getsockname())

    def open_more(self, count: int) -> tuple[socket.socket, ...]:
        """So many sockets, this one among them, to listen on side by side.

        The system spreads clients over those of a shared port. Where it can't
        be shared all stand for the same socket, and who is first accepts.
        """
        if self.sock.fileno() < 0:
            raise ValueError(
                'the listening socket is closed: a server that has stopped '
                "can't be started again, make a new one"
            )
        make = bind_beside if self.shareable else socket.socket.dup
        try:
            if self.shareable and count > 1:
                share_port(self.sock)
            while len(self._more) < count - 1:
                self._more.append(make(self.sock))
        except BaseException:
            self.close_more()
            raise
        return self.sock, *self._more

    def close_more(self) -> None:
        """Undo open_more()."""
        while self._more:
            self._more.pop().close()

    def close_one(self, index: int) -> None:
        """Close one of what open_more() returned."""
        if index == 0:
            self._close_first()
        else:
            self._more[index - 1].close()

    def close(self) -> None:
        """Close all of it; called again, it does nothing."""
        self._close_first()
        for sock in self._more:
            sock.close()

    def forget(self) -> None:
        """In a forked child: the file is the parent's."""
        self._file = None
        self.close()

    def _close_first(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # Before the socket is closed, so that nobody finds a file that
            # is stale; and till then nobody else's file can be this inode.
            file.remove()
        self.sock.close()


@contextmanager
def listening(
    address: Address | None, sock: socket.socket | None
) -> Iterator[Listener]:
    """The listener that these arguments of a server ask for.

    Where the body raises, what was bound is closed, and a socket of the
    caller's is left as it was.
    """
    if address is not None and sock is not None:
        raise TypeError('address and sock are both given, expected one')
    theirs = sock
    if sock is not None:
        listener = Listener(_look_into(sock))
    elif address is not None:
        listener = _listen_on(address)
    else:
        listener = Listener(_passed())
    try:
        # Clients that vanish without a word are found out, if only after the
        # two hours that systems wait. Connections take this from the
        # listener (Linux), so that it costs no system call for each.
        if listener.sock.family != _UNIX:
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        yield listener
    except BaseException:
        if theirs is not None:
            listener.sock.detach()
        listener.close()
        raise
    if theirs is not None:
        theirs.detach()


# --- binding to an address ---


def bind(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """Return a stream socket bound to (host, port) or to a path.

    It does not listen yet, but a Unix socket does: until then nobody could
    tell it from one that was left behind.

    reuse_port: other sockets that say so too may be bound to the same port,
    and the system spreads clients over them. OSError where it cannot.
    """
    if isinstance(address, tuple | list):
        return _bind_port(address, reuse_port)
    if reuse_port:
        raise ValueError(
            f'{address!r} is not a port that sockets could share: bind it once'
        )
    return _bind_path(_check_path(address))


def share_port(sock: socket.socket) -> None:
    """Let other sockets of this user be bound to the port of this one.

    A server's is not shared when it is bound, so that a second server that is
    started by mistake fails. OSError where the system can't do it.
    """
    option = getattr(socket, 'SO_REUSEPORT', None)
    if option is None:
        raise OSError(
            errno.ENOPROTOOPT,
            'this system cannot share a port among sockets (SO_REUSEPORT): '
            'serve with one process and one loop',
        )
    sock.setsockopt(socket.SOL_SOCKET, option, 1)


def bind_beside(sock: socket.socket) -> socket.socket:
    """A socket like this one, whose port is shared, and bound to the same
    address."""
    option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
    beside = bind(sock.getsockname(), reuse_port=True)
    try:
        beside.setsockopt(*option, sock.getsockopt(*option))
    except BaseException:
        beside.close()
        raise
    return beside


def _listen_on(address: Address) -> Listener:
    sock = bind(address)
    try:
        name = sock.getsockname()
        is_file = sock.family == _UNIX and isinstance(name, str)
        file = _File(name) if is_file else None
        return Listener(sock, file, shareable=sock.family != _UNIX)
    except BaseException:
        sock.close()
        raise


def _bind_port(address: Any, reuse_port: bool) -> socket.socket:
    host, port, scope = _split(address)
    failure: OSError | None = None
    for family, sockaddr in _resolve(host, port, scope):
        try:
            return _bind_one(family, sockaddr, reuse_port)
        except OSError as error:
            failure = failure or _with_name(error, sockaddr)
            # This machine may not have all addresses of a name.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    assert failure is not None
    raise failure


def _bind_one(family: int, sockaddr: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = int(sockaddr[0] != '::')  # '::' is for IPv4 as well
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if reuse_port:
            share_port(sock)
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _split(address: Any) -> tuple[str, int, tuple[int, ...]]:
    """The host, the port, and what else IPv6 has (flowinfo, scope_id)."""
    if len(address) not in (2, 4):
        raise TypeError(_advise(address))
    host, port, *scope = address
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(
            f'address is {address!r}, expected a str and an int, such as '
            "('', 8000)"
        )
    if not 0 <= port <= 65535:
        raise ValueError(f'port is {port}, expected 0 to 65535')
    return host, port, tuple(scope)


def _resolve(
    host: str, port: int, scope: tuple[int, ...]
) -> list[tuple[int, Any]]:
    """Families and socket addresses, the best first."""
    if host == '':
        return [(socket.AF_INET, ('', port))]
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise socket.gaierror(
            error.errno, f'{error.strerror}: {host!r}'
        ) from None
    # Clients that try one address of `localhost` try the one of IPv4; those
    # that prefer IPv6 try the other one, too.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return [
        (family, (*sockaddr[:2], *(scope or sockaddr[2:])))
        if family == socket.AF_INET6
        else (family, sockaddr)
        for family, _, _, _, sockaddr in found
    ]


def _with_name(error: OSError, sockaddr: Any) -> OSError:
    """The same error, telling which address it is about."""
    text = f'{error.strerror}: {format_address(sockaddr)}'
    host = sockaddr[0].lower()
    if error.errno == errno.EINVAL and host.startswith('fe80:'):
        text += f" (a link-local address needs its interface: '{host}%eth0')"
    if error.errno == errno.EADDRINUSE:
        text += ' (another program listens there; port 0 is any free one)'
    if error.errno == errno.EADDRNOTAVAIL:
        text += " (none of this machine's; '' means all of them)"
    return OSError(error.errno, text)


# --- Unix sockets ---


class _File:
    """A socket's file, which is to be removed by the process that made it."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the directory may change
        self._process = os.getpid()
        self._identity = _identify(self._path)

    def remove(self) -> None:
        """Remove it, if it is still the one that was made."""
        if os.getpid() != self._process:
            return
        with contextlib.suppress(OSError):
            if _identify(self._path) == self._identity:
                os.unlink(self._path)


def _identify(path: str | bytes) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _check_path(address: Any) -> bytes:
    try:
        path = os.fsencode(address)
    except TypeError:
        raise TypeError(_advise(address)) from None
    if _UNIX is None:
        raise OSError(errno.EAFNOSUPPORT, 'this system has no Unix sockets')
    if path in (b'', b'\0'):
        raise ValueError(_advise(address))
    if isinstance(address, str) and '/' not in address and path[0] != 0:
        # More likely a host than a file of the current directory.
        raise ValueError(_advise(address))
    if path[0] == 0:
        if sys.platform != 'linux':
            raise ValueError(
                f'address is {address!r}: this system has no abstract names, '
                'expected a path'
            )
        limit = _NAME_SIZE
    else:
        if 0 in path:
            raise ValueError(f'address is {address!r}, with a NUL in the path')
        limit = _NAME_SIZE - 1
    if len(path) > limit:
        raise ValueError(
            f'address is {address!r}, a name of {len(path)} bytes: that of a '
            f'Unix socket has at most {limit}'
        )
    return path


def _advise(address: Any) -> str:
    return (
        f"address is {address!r}, expected (host, port) such as ('', 8000), "
        "or a path with a '/' in it, such as './app.sock'"
    )


def _bind_path(path: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or path[0] == 0:
                raise
            _remove_stale(path)
            sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.filename is not None:
            raise
        text = f'{error.strerror}: {format_address(_name_of(path))}'
        if error.errno == errno.ENOENT:
            text += ' (the directory has to exist)'
        raise OSError(error.errno, text) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _name_of(path: bytes) -> str | bytes:
    return path if path[0] == 0 else os.fsdecode(path)


def _remove_stale(path: bytes) -> None:
    """Remove a socket on which nobody listens; OSError for all else."""
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(before.st_mode):
        raise OSError(
            errno.EADDRINUSE, 'what is there is not a socket, and stays'
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        number = probe.connect_ex(path)
    if number in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise OSError(errno.EADDRINUSE, 'somebody listens on this Unix socket')
    if number == errno.ENOENT:
        return
    if number != errno.ECONNREFUSED:
        raise OSError(
            errno.EADDRINUSE,
            'there is a socket, of which cannot be told whether somebody '
            f'listens ({os.strerror(number)})',
        )
    # Another server may have replaced it in the meantime.
    if _identify(path) == (before.st_dev, before.st_ino):
        os.unlink(path)


# --- sockets that exist ---


def _passed() -> socket.socket:
    """The one socket that a service manager has passed."""
    count = count_passed()
    if count == 0:
        raise TypeError(
            'neither address nor sock is given, and no service manager has '
            "passed a socket (LISTEN_FDS): expected an address such as ('', "
            '8000)'
        )
    if count > 1:
        raise ValueError(
            f'the service manager has passed {count} sockets, expected one: '
            'make a server of each, Server(sock=sock), from what '
            'twspy.listen_fds() returns'
        )
    [sock] = listen_fds()
    try:
        _check_bound(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _look_into(sock: Any) -> socket.socket:
    """Another object for the same descriptor."""
    if not isinstance(sock, socket.socket):
        raise TypeError(
            f'sock is {type(sock).__name__}, expected a socket.socket'
        )
    ssl = sys.modules.get('ssl')
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError(
            "sock is an ssl.SSLSocket, whose encryption can't be taken over: "
            'pass the socket.socket before it is wrapped'
        )
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, 'sock is closed, expected a bound socket')
    same = socket.socket(fileno=sock.fileno())
    try:
        _check_bound(same)
    except BaseException:
        same.detach()
        raise
    return same


def _check_bound(sock: socket.socket) -> None:
    """ValueError where a server could not listen on it."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(
            f'sock is of type {_name(sock.type)}, expected a stream socket '
            '(SOCK_STREAM)'
        )
    if sock.family not in (socket.AF_INET, socket.AF_INET6, _UNIX):
        raise ValueError(
            f'sock is of family {_name(sock.family)}, expected AF_INET, '
            'AF_INET6 or AF_UNIX'
        )
    with contextlib.suppress(OSError):
        sock.getpeername()
        raise ValueError(
            'sock is connected, expected a bound one: for a single '
            'connection use twspy.websocket(sock).handshake(server=True)'
        )
    name = sock.getsockname()
    if not (name if sock.family == _UNIX else name[1]):
        raise ValueError('sock is not bound: call sock.bind(address) first')


def _name(number: Any) -> str:
    return str(getattr(number, 'name', number))


# --- naming ---


def format_address(address: Any) -> str:
    """`host:port`, `[host]:port`, `unix:path` or `unix:@name` (abstract)."""
    if isinstance(address, str | bytes):
        return f'unix:{_printable(address)}'
    host, port, *scope = address
    if len(scope) == 2 and scope[1] != 0 and '%' not in host:
        host = f'{host}%{_interface(scope[1])}'
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def _printable(name: str | bytes) -> str:
    text = os.fsdecode(name)
    mark, text = ('@', text[1:]) if text[:1] == '\0' else ('', text)
    return mark + (text if text.isprintable() else ascii(text))


def _interface(number: int) -> str:
    try:
        return socket.if_indextoname(number)
    except OSError:
        return str(number)
