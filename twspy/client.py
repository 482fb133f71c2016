"""Opening a client in one call."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import (
    TYPE_CHECKING,
    Any,
    SupportsIndex,
    TypedDict,
    Unpack,
    overload,
)

from ._dialer import (
    USER_AGENT,
    Address,
    ConnectionT,
    Dialer,
    Headers,
    PathName,
)
from ._twspy import Connection, websocket
from .extensions import Compression, Templates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLContext


class SocketOptions(TypedDict, total=False):
    """The options of `websocket` that a pair() has, too."""

    protocols: Iterable[str]
    extensions: Templates
    compression: Compression
    headers: Headers
    origin: str | None
    max_size: int | None
    open_timeout: float | None
    close_timeout: float | None
    max_head_size: SupportsIndex
    max_header_lines: SupportsIndex


class ConnectOptions(SocketOptions, total=False):
    """The options of `connect()`, but for the connection's class."""

    auth: tuple[str, str] | None
    ssl: SSLContext | None
    ssl_args: Mapping[str, Any] | None
    proxy: str | bool | None
    ping_interval: float | None
    ping_timeout: float | None
    max_queue: SupportsIndex | None
    source_address: Address | None
    user_agent: str | None
    redirects: int
    sock: socket.socket | None
    path: PathName | None


@overload
def connect(url: str, **options: Unpack[ConnectOptions]) -> Connection: ...
@overload
def connect(
    url: str,
    *,
    connection_class: Callable[[websocket], ConnectionT],
    **options: Unpack[ConnectOptions],
) -> ConnectionT: ...
def connect(
    url: str,
    *,
    connection_class: Callable[[websocket], Connection] = Connection,
    protocols: Iterable[str] = (),
    extensions: Templates = (),
    compression: Compression = None,
    headers: Headers = (),
    origin: str | None = None,
    auth: tuple[str, str] | None = None,
    ssl: SSLContext | None = None,
    ssl_args: Mapping[str, Any] | None = None,
    proxy: str | bool | None = True,
    open_timeout: float | None = 10.0,
    close_timeout: float | None = 2.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
    max_size: int | None = 1 << 20,
    max_queue: SupportsIndex | None = 16,
    source_address: Address | None = None,
    user_agent: str | None = USER_AGENT,
    redirects: int = 10,
    sock: socket.socket | None = None,
    path: PathName | None = None,
    max_head_size: SupportsIndex = 16384,
    max_header_lines: SupportsIndex = 128,
) -> Connection:
    """Connect to a WebSocket server and return the Connection.

    url: `ws://` or `wss://` and `[user:password@]host[:port][/path][?query]`.
    Other than ASCII letters are encoded: names by IDNA (RFC 3490), path and
    query in percent-encoded UTF-8. An IPv6 address stands in brackets, with
    the zone of a link-local one: `ws://[fe80::1%25eth0]/`.

    connection_class: what to make of the connected websocket, such as a
    subclass of Connection with handlers.

    ================  ========  ============================================
    protocols         ()        subprotocols to ask for, the best first
    extensions        ()        extensions to offer, see Extension
    compression       None      more of them: 'deflate', an Extension, or an
                                iterable of them
    headers           ()        more fields of the request: pairs, a mapping
    origin            None      what the Origin field says
    auth              None      (user name, password) for Basic and Digest
    ssl               None      an ssl.SSLContext for wss:, or instead of it
    ssl_args          None      a dict of the arguments of `enable_ssl()`
    proxy             True      see below
    open_timeout      10.0      seconds for all until the Connection is open
    close_timeout     2.0       seconds for the closing handshake
    ping_interval     20.0      seconds of silence before a ping, or None
    ping_timeout      20.0      seconds to wait for its answer, or None
    max_size          1 MiB     bytes in a message; None: no limit
    max_queue         16        messages to read ahead of `recv()`
    source_address    None      (host, port) to connect from
    user_agent        'twspy/'  what the User-Agent field says; None: none
    redirects         10        how many to follow; 0: none
    sock              None      a connected stream socket to use; it is
                                taken over, and closed where this fails
    path              None      a Unix socket to connect to; the URL says
                                what is asked for there
    max_head_size     16 KiB    bytes in the head of the answer
    max_header_lines  128       header fields in it
    ================  ========  ============================================

    The server is pinged after `ping_interval` of silence (RFC 6455 section
    5.5.2). Where it answers nothing within `ping_timeout` the connection is
    given up: what is under way or comes next raises SocketClosed with
    `ended_by` 'keepalive'. `Connection.latency` is what the last answer took.
    This goes on while the program does something else: then up to `max_queue`
    messages are read ahead, which begins a second after the last `recv()`, so
    that pings of the server are answered, too. What is read ahead comes out of
    `recv()` first, handlers and hooks run there, and `conn.sock.recv()` raises
    RuntimeError. Nothing is read ahead with None, while frames pass through
    hooks of `conn.sock`, or while that is non-blocking: select() knows only
    what is in the socket. (The `max_queue` of a Server is another one: bytes
    to be sent.) One thread, 'twspy-keeper', does this for all connections of
    a process; a forked child has none.

    Credentials, from `auth` or the URL, are sent only after the server has
    answered 401 with a challenge, so that Digest is used where a server
    offers it, and no server gets a password that it did not ask for.

    Redirects (301, 302, 303, 307, 308) are followed, but never from wss: to
    ws:, nor with `sock` or `path`. On another origin (scheme, host or port
    differ) credentials, the fields Authorization, Cookie and
    Proxy-Authorization, and of `ssl_args` the client's certificate and
    server_hostname are left out. All else goes along, and so does `ssl`.

    proxy: the URL of one, `scheme://[user:password@]host[:port]`, with the
    scheme http (port 80, where none is given), https (443), socks5 (1080) or
    socks5h (1080; the proxy looks names up). `socks` means socks5h, none
    means http. None: connect directly. True: what the environment says, in
    lower case before upper case: `http_proxy` for ws:, `https_proxy` for
    wss:, else `all_proxy`, unless `no_proxy` names the host. It lists, with
    commas, names (and all below them), addresses, networks as 10.0.0.0/8,
    each with a port if only that is meant, or `*`. As with urllib and curl,
    localhost is no exception; HTTP_PROXY in upper case does not count in a
    CGI program (where there is REQUEST_METHOD). An HTTP proxy is asked for
    a tunnel (CONNECT) for ws:, too (RFC 6455 section 4.1).

    Raises ValueError for a URL that is none, HandshakeError (with the
    answer's status, headers and body) where the server refuses, TimeoutError
    after `open_timeout`, SSLError where TLS fails, and OSError where the
    server can't be reached. No text of an error shows a password.
    """
    return Dialer(
        url=url,
        connection_class=connection_class,
        protocols=protocols,
        extensions=extensions,
        compression=compression,
        headers=headers,
        origin=origin,
        auth=auth,
        ssl=ssl,
        ssl_args=ssl_args,
        proxy=proxy,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        max_size=max_size,
        max_queue=max_queue,
        source_address=source_address,
        user_agent=user_agent,
        redirects=redirects,
        sock=sock,
        path=path,
        max_head_size=max_head_size,
        max_header_lines=max_header_lines,
    ).dial()


def pair(
    **options: Unpack[SocketOptions],
) -> tuple[Connection, Connection]:
    """Return two connected ends, a client and a server, for tests.

    options: those of `websocket`, given to both ends.
    """
    with contextlib.ExitStack() as cleanup:
        ends = socket.socketpair()
        for end in ends:
            cleanup.callback(end.close)  # nothing once it is taken over
        client = cleanup.enter_context(websocket(ends[0], **options))
        server = cleanup.enter_context(websocket(ends[1], **options))
        _shake_hands(client, server)
        made = Connection(client), Connection(server)
        cleanup.pop_all()
        return made


def _shake_hands(client: websocket, server: websocket) -> None:
    failures: list[BaseException] = []

    def answer() -> None:
        try:
            server.handshake(server=True)
        except BaseException as error:
            failures.append(error)
            server.close()  # so that the client does not wait for it

    thread = threading.Thread(target=answer, name='twspy-pair')
    thread.start()
    try:
        client.handshake(host='localhost')
    except BaseException as error:
        client.close()  # so that the server does not wait for it
        thread.join()
        if isinstance(error, ConnectionError) and any(
            not isinstance(cause, ConnectionError) for cause in failures
        ):
            raise failures[0] from None
        raise
    thread.join()
    if failures:
        raise failures[0]
