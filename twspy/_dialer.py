"""Connections to one URL: redirects, proxies, deadlines, existing sockets."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar

from . import _redirects
from ._proxies import Proxy, find_proxy
from ._redirects import Hop
from ._tls import SSLSettings
from ._twspy import Connection, _check_keepalive, websocket
from ._version import __version__
from .errors import HandshakeError
from .extensions import Compression, Templates
from .uri import URI, parse_uri

if TYPE_CHECKING:
    from ssl import SSLContext

Address = tuple[str, int]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
PathName = str | bytes | os.PathLike[str] | os.PathLike[bytes]
ConnectionT = TypeVar('ConnectionT', bound=Connection)

USER_AGENT = f'twspy/{__version__}'

_logger = logging.getLogger('twspy')

_YEARS = 1e9  # seconds that are as good as no limit


@dataclass(kw_only=True, repr=False, eq=False)
class Dialer(Generic[ConnectionT]):
    """Connects to one URL, as often as it is told to.

    The fields are the arguments of `connect()`. What is wrong with them shows
    when it is made: ValueError, TypeError.
    """

    url: str
    connection_class: Callable[[websocket], ConnectionT]
    protocols: Iterable[str] = ()
    extensions: Templates = ()
    compression: Compression = None
    headers: Headers = ()
    origin: str | None = None
    auth: tuple[str, str] | None = None
    ssl: SSLContext | None = None
    ssl_args: Mapping[str, Any] | None = None
    proxy: str | bool | None = True
    open_timeout: float | None = 10.0
    close_timeout: float | None = 2.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    max_size: int | None = 1 << 20
    max_queue: SupportsIndex | None = 16
    source_address: Address | None = None
    user_agent: str | None = USER_AGENT
    redirects: int = 10
    sock: socket.socket | None = None
    path: PathName | None = None
    max_head_size: SupportsIndex = 16384
    max_header_lines: SupportsIndex = 128

    _first: Hop = field(init=False)
    _lock: threading.Lock = field(init=False)
    _current: websocket | None = field(init=False, default=None)
    _is_cancelled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        uri = parse_uri(self.url)
        self._check_combinations(uri)
        # What can be read once is needed for each hop.
        if isinstance(self.protocols, Iterator):
            self.protocols = tuple(self.protocols)
        if isinstance(self.extensions, Iterator):
            self.extensions = tuple(self.extensions)
        if isinstance(self.compression, Iterator):
            self.compression = tuple(self.compression)
        self._first = Hop(
            uri,
            uri.auth if self.auth is None else self.auth,
            _fields(self.headers, self.user_agent),
            _checked_ssl_args(self.ssl_args),
        )
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return str(self._first.uri)

    def check(self) -> None:
        """Fail as dial() would, as far as that can be told without
        connecting: files of certificates, values of options."""
        self._find_proxy(self._first.uri)
        self._make(self._first, self.open_timeout).close()
        if self._first.uri.secure and self.ssl is None:
            SSLSettings(**self._first.ssl_args).context_for(server_side=False)

    def dial(self) -> ConnectionT:
        """Connect, following redirects."""
        deadline = _Deadline(self.open_timeout)
        hop = self._first
        followed = 0
        while True:
            try:
                sock = self._open(hop, deadline)
            except HandshakeError as error:
                if not _redirects.is_redirect(error):
                    raise
                hop = self._follow(hop, error, followed)
                followed += 1
            except Exception as error:
                if followed > 0:
                    error.add_note(f'This was at {hop.uri}, by a redirect.')
                raise
            else:
                return self._connection(sock)

    def cancel(self) -> None:
        """From any thread: have dial() fail with OSError, now and later."""
        with self._lock:
            self._is_cancelled = True
            current = self._current
        if current is not None:
            current.close()

    # --- arguments ---

    def _check_combinations(self, uri: URI) -> None:
        _check_seconds('open_timeout', self.open_timeout)
        _check_keepalive(self.ping_interval, self.ping_timeout, self.max_queue)
        if self.auth is not None and uri.auth is not None:
            raise TypeError(
                'auth is given, and the URL has a user name: give one of both'
            )
        if self.ssl is not None and self.ssl_args:
            raise TypeError(
                'ssl and ssl_args are both given: an SSLContext has all that '
                'ssl_args could say'
            )
        if type(self.redirects) is not int or self.redirects < 0:
            raise ValueError(
                f'redirects is {self.redirects!r}, expected an int of at '
                'least 0: how many to follow'
            )
        if self.sock is None and self.path is None:
            return
        if self.sock is not None and self.path is not None:
            raise TypeError('sock and path are both given, expected one')
        name = 'path' if self.sock is None else 'sock'
        if isinstance(self.proxy, str):
            raise TypeError(
                f'{name} and proxy are both given: {name} says where to go'
            )
        if self.source_address is not None:
            raise TypeError(
                f'{name} and source_address are both given: {name} is not '
                'connected from here'
            )

    # --- connecting ---

    def _open(self, hop: Hop, deadline: _Deadline) -> websocket:
        connected = self.sock
        if self.path is not None:
            connected = _connect_unix(self.path, deadline.remaining())
        try:
            sock = self._make(hop, deadline.remaining(), connected)
        except BaseException:
            if connected is not None and connected is not self.sock:
                connected.close()
            raise
        try:
            self._set_current(sock)
            if connected is not None:
                sock.handshake(host=hop.uri.netloc)
            else:
                self._connect(sock, hop.uri)
        except BaseException:
            sock.close()
            raise
        finally:
            self._set_current(None)
        return sock

    def _make(
        self,
        hop: Hop,
        timeout: float | None,
        connected: socket.socket | None = None,
    ) -> websocket:
        options: dict[str, Any] = {
            'protocols': self.protocols,
            'extensions': self.extensions,
            'compression': self.compression,
            'headers': hop.headers,
            'origin': self.origin,
            'location': hop.uri.resource,
            'max_size': self.max_size,
            'open_timeout': timeout,
            'close_timeout': self.close_timeout,
            'max_head_size': self.max_head_size,
            'max_header_lines': self.max_header_lines,
        }
        if hop.auth is not None:
            options['auth'] = hop.auth
        if connected is None:
            options['family'] = socket.AF_UNSPEC
        sock = websocket(connected, **options)
        try:
            if hop.uri.secure:
                self._enable_ssl(sock, hop)
        except BaseException:
            sock.close()
            raise
        return sock

    def _enable_ssl(self, sock: websocket, hop: Hop) -> None:
        ssl_args = dict(hop.ssl_args)
        if self.sock is not None or self.path is not None:
            # What connect() takes from its address.
            ssl_args.setdefault('server_hostname', hop.uri.host)
        if self.ssl is not None:
            ssl_args['context'] = self.ssl
        sock.enable_ssl(**ssl_args)

    def _find_proxy(self, uri: URI) -> Proxy | None:
        if self.sock is not None or self.path is not None:
            return None
        return find_proxy(uri, self.proxy, os.environ)

    def _connect(self, sock: websocket, uri: URI) -> None:
        proxy = self._find_proxy(uri)
        sock.connect(
            (uri.host, uri.port),
            proxy=None if proxy is None else proxy.as_tuple(),
            source_address=self.source_address,
        )

    def _set_current(self, sock: websocket | None) -> None:
        with self._lock:
            self._current = sock
            if sock is not None and self._is_cancelled:
                raise OSError(errno.ECANCELED, 'connecting was given up')

    def _follow(self, hop: Hop, error: HandshakeError, followed: int) -> Hop:
        if self.sock is not None or self.path is not None:
            name = 'sock' if self.path is None else 'path'
            raise _redirects.not_followed(
                error, f'with {name} there is nowhere else to go'
            ) from None
        try:
            further = _redirects.follow(hop, error, followed, self.redirects)
        except HandshakeError as refused:
            raise refused from None
        _logger.debug(
            'redirected with %d from %s to %s',
            error.status,
            hop.uri,
            further.uri,
        )
        return further

    def _connection(self, sock: websocket) -> ConnectionT:
        try:
            connection: Any = self.connection_class(sock)
            if isinstance(connection, Connection):
                connection._keep(
                    self.ping_interval, self.ping_timeout, self.max_queue
                )
        except BaseException:
            sock.close()
            raise
        made: ConnectionT = connection
        return made


# --- details ---


class _Deadline:
    """What is left of a time that several steps share."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = math.inf
        if seconds is not None:
            self._end = time.monotonic() + min(seconds, _YEARS)

    def remaining(self) -> float | None:
        """Seconds, None where there is no end; TimeoutError at the end."""
        if self._seconds is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f'opening handshake timed out after {self._seconds} s'
            )
        return left


def _check_seconds(name: str, seconds: float | None) -> None:
    """As websocket() does it; here it is needed before."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(
            f'{name} is {type(seconds).__name__}, expected a number of '
            'seconds or None'
        )
    if not seconds > 0:
        raise ValueError(
            f'{name} is {float(seconds)!r}, expected seconds above 0 or None'
        )


def _fields(
    headers: Headers, user_agent: str | None
) -> tuple[tuple[str, str], ...]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        fields = tuple((name, value) for name, value in pairs)
    except (TypeError, ValueError):
        raise TypeError(
            f'headers is {type(headers).__name__}, expected a mapping or '
            'pairs (name, value)'
        ) from None
    if user_agent is not None and not any(
        isinstance(name, str) and name.lower() == 'user-agent'
        for name, _ in fields
    ):
        fields += (('User-Agent', user_agent),)
    return fields


def _checked_ssl_args(given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f'ssl_args is {type(given).__name__}, expected a mapping such as '
            "{'cafile': 'authority.pem'}"
        )
    return dict(given)


def _connect_unix(path: PathName, timeout: float | None) -> socket.socket:
    """A socket that is connected to a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        # A socket with a timeout of Python's does not block in the kernel,
        # and such a one fails at once where the server's backlog is full.
        _set_send_timeout(sock, timeout)
        sock.connect(os.fspath(path))
        _set_send_timeout(sock, None)
    except BlockingIOError:
        sock.close()
        raise TimeoutError(
            f'connect() timed out: the backlog of {os.fspath(path)!r} is full'
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _set_send_timeout(sock: socket.socket, seconds: float | None) -> None:
    fraction, whole = math.modf(seconds or 0.0)  # zero is for ever
    # Rounded up, so that a short time is not for ever, but to no whole second.
    microseconds = math.ceil(fraction * 999_999)
    value = struct.pack('@ll', int(whole), microseconds)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
