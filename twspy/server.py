"""The server: its handlers, and how it starts and stops."""

from __future__ import annotations

import inspect
import logging
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    SupportsIndex,
    TypedDict,
    Unpack,
    cast,
)

from ._binding import Address, listening
from ._handlers import check_handlers, refuse_option
from ._runner import Runner, check_number
from ._tls import server_settings
from ._twspy import Auth, CloseMessage, Connection, Message
from ._twspy import Server as _Loops
from ._workers import check_count, run_workers
from .extensions import Compression, Templates
from .http import Request, Response

if TYPE_CHECKING:
    from ssl import SSLContext

logger = logging.getLogger('twspy.server')


class _Options(TypedDict, total=False):
    """The options of `Server` that its C half takes."""

    protocols: Iterable[str]
    extensions: Templates
    compression: Compression
    trusted_origins: Iterable[str] | Literal['same-origin']
    locations: Iterable[str]
    auth: Auth | None
    max_size: int | None
    max_queue: SupportsIndex
    low_water: SupportsIndex | None
    max_clients: SupportsIndex | None
    max_threads: SupportsIndex
    max_half_open: SupportsIndex | None
    max_head_size: SupportsIndex
    max_header_lines: SupportsIndex
    open_timeout: float | None
    close_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    idle_timeout: float | None
    send_timeout: float | None


class _Missing:
    """What a subclass lacks that did not call `super().__init__()`."""

    def __get__(self, server: object, cls: type) -> Any:
        if server is None:
            return self
        raise RuntimeError(
            'Server.__init__(address) was not called: call '
            'super().__init__(address) in the subclass'
        )


def _overrides(method: object, base: object) -> bool:
    """Whether a server's bound method is not the one that does nothing."""
    return getattr(method, '__func__', None) is not base


class Server(_Loops):
    """A server whose handlers are called for each client.

    Override `onopen`, `onmessage`, `onclose`, `onping`, `onpong`, `onerror`,
    `onhandshake` and `onrequest`, then call `run()`. A client is a
    `Connection`: handlers may call its `send()`, `recv()` and `close()`.

    Threads: handlers of one client are called in order and never overlap, but
    on changing threads of the server. So keep nothing of a client in a
    `threading.local`; put it on `client`, which takes attributes. What works
    only on the thread that made it, as a `sqlite3` connection does unless it
    was made with `check_same_thread=False`, can't be kept from one call to
    the next. Handlers of different clients may run at the same time: where
    one takes longer than some milliseconds, or waits in `recv()`, `send()` or
    `close()`, another thread goes on with the other clients. What handlers
    share needs a lock. A child of an `os.fork()` in a handler must end with
    `os._exit()`, as those of `subprocess` and `multiprocessing` do: the
    connections are the parent's. Where it leaves the handler instead, it ends
    there: with status 1, or that of a SystemExit. In a child, `send()` and
    what else would use a connection of the server raises RuntimeError.

    address: `(host, port)`. `''` as the host means all IPv4 addresses,
    `'::'` all IPv4 and IPv6 ones; port 0 picks a free port, which `address`
    tells. Of a name's addresses the first IPv4 one is taken, else the first
    IPv6 one; a link-local one names its interface: `'fe80::1%eth0'`. Or a
    path with a `'/'` in it, such as `'/run/app.sock'`, for a Unix socket. A
    file that a dead server left there is replaced, any other is an OSError;
    the server removes its own at the end. On Linux a leading `'\\0'` makes
    it an abstract name. The constructor binds, and raises OSError where it
    can't.

    sock: a bound or listening stream socket instead of an address. The
    server takes it over, as if by `detach()`. With neither of both, the one
    socket that systemd has passed is taken; see `listen_fds()`.

    `str(client)` is `1.2.3.4:5` for an IPv4 client, also of `'::'`, whose
    `remote_address` sockets write as `'::ffff:1.2.3.4'`. Clients of a Unix
    socket mostly have no address (`''`); the process is named instead, as in
    `unix:pid=4711`. They can connect, and wait, from the constructor on.

    loglevel: level of the logger `twspy.server`, which tells of start and
    stop at INFO and of clients and messages at DEBUG. Where logging is not
    configured, it writes to standard error.

    ssl_args: a mapping with `certfile` and what else `websocket.enable_ssl()`
    takes for a listener, to serve `wss:` instead of `ws:`; see also
    `reload_certificates()`. ssl: an `ssl.SSLContext` in its place, which works
    the same but is slower: Python's `ssl` module does the encryption, on one
    thread for all connections.

    max_join_time: seconds that a stop waits for clients to answer the Close
    frame, and with one second more for running handlers, whose threads are
    then left behind; None: as long as it takes.

    options:

    ================  =======  =============================================
    protocols         ()       subprotocols it speaks
    extensions        ()       that clients may use, see `Extension`
    compression       None     more of them: 'deflate', an Extension, or an
                               iterable of them
    trusted_origins   ()       `'same-origin'` or a list of origins; empty:
                               every web page may connect
    locations         ()       paths it serves; empty: all
    auth              None     a BasicAuth or DigestAuth that clients have to
                               satisfy
    max_size          1 MiB    bytes in a message, or None
    max_queue         1 MiB    bytes waiting to be sent to a client, above
                               which `send()` waits for it (connect() has
                               another one: messages read ahead)
    low_water         None     how few of them end the wait; None: a quarter
                               of max_queue
    max_clients       None     clients at a time, or None
    max_threads       1024     threads for handlers; where all are inside of
                               slow ones, other clients have to wait
    max_half_open     None     handshakes of one address at a time, or None
    max_head_size     16 KiB   bytes in a request's head; 431 above it
    max_header_lines  128      header lines in it, 256 at most
    open_timeout      10 s     for the opening handshake, as a whole
    close_timeout     2 s      for the closing one
    ping_interval     20 s     of silence before a client is pinged
    ping_timeout      20 s     that it then has to answer
    idle_timeout      None     without a message before a client is closed
                               with 1001
    send_timeout      30 s     that `send()` waits before it drops a client
                               that does not read
    ================  =======  =============================================

    Times are in seconds, None for no limit. A wrong value is a TypeError or
    ValueError that names the option.

    With `auth`, who wants a WebSocket gets 401 until it proves who it is, and
    `client.username` then tells. Plain HTTP requests are not asked, as health
    checks can't answer: where `onrequest` has something to protect, let it
    call `self.auth.authenticate(request)`.
    """

    _bound: Any = _Missing()
    _runner: Runner = cast(Runner, _Missing())

    def __init__(
        self,
        address: Address | None = None,
        loglevel: int | str = logging.INFO,
        ssl_args: Mapping[str, Any] | None = None,
        max_join_time: float | None = 2.0,
        *,
        ssl: SSLContext | None = None,
        sock: socket.socket | None = None,
        **options: Unpack[_Options],
    ) -> None:
        misspelt = check_handlers(type(self), Server)
        if options:
            known = inspect.signature(_Loops).parameters
            refuse_option('Server', options, known)
        tls = server_settings(ssl, ssl_args)
        with listening(address, sock) as listener:
            super().__init__(**options)
            logger.setLevel(loglevel)
            self._bound = listener.sock.getsockname()
            self._runner = Runner(listener, max_join_time, tls)
        for name, meant in misspelt:
            logger.warning(
                '%s is no handler, and is not called: did you mean %s?',
                name,
                meant,
            )

    @property
    def address(self) -> Any:
        """The bound address, as `getsockname()` of sockets gives it: with
        the real port where 0 was asked for, or a Unix socket's path."""
        return self._bound

    @property
    def max_join_time(self) -> float | None:
        """Seconds that a stop waits for clients and running handlers."""
        return self._runner.patience

    @property
    def worker(self) -> int | None:
        """Which worker this process is, from 0; None outside of workers."""
        return self._runner.worker

    def __repr__(self) -> str:
        name = type(self).__name__
        if '_runner' not in vars(self):
            return f'<{name} without __init__()>'
        return f'<{name} {self._bound!r} {self._runner.state}>'

    # Handlers

    def onhandshake(
        self, client: Connection, request: Request
    ) -> Response | None:
        """Called with each request for a WebSocket that may be accepted.

        That is one that the options (`locations`, `trusted_origins`, `auth`)
        allow. Look at `request.headers`, `request.path` or `request.query`,
        for a cookie or a token, and decide:

        - Return None to accept.
        - Return `Response(101, headers=...)` to accept, with more fields in
          the answer, such as Set-Cookie. A Sec-WebSocket-Protocol among them
          is the subprotocol; it must be one that the client has offered.
          Fields that the handshake itself writes are a ValueError.
        - Return a Response with a status from 300 on, such as 403 or a
          redirect, or raise HandshakeError with a status (None: 403),
          headers and a body (empty: its message). Both go to the client as
          they are. So does the HandshakeError of a `twspy.connect()` in here,
          if it is not caught.

        What else it raises, or returns, goes to `onerror`, and the client
        gets 500.

        client: what `onopen` is going to be called with. It takes attributes,
        and `username` and `remote_address` are there; it can't send or
        receive yet (RuntimeError), and its `state` is 'connecting'. Where the
        client is refused, or gone before it has the answer, neither `onopen`
        nor `onclose` is called.

        A handler that takes its time holds up nobody else; `open_timeout`
        bounds it, as a part of the opening handshake. Override it on the
        class, or before `start()`: only then is a Request made for each
        handshake.
        """
        return None

    def onopen(self, client: Connection) -> None:
        """Called when a client has connected."""
        logger.debug('client %s connected', client)

    def onmessage(self, client: Connection, message: Message) -> None:
        """Called with each TextMessage or BinaryMessage of a client."""
        logger.debug('client %s sent %r', client, message)

    def onclose(self, client: Connection, message: CloseMessage) -> None:
        """Called once when a client is gone, after its `onopen`.

        message: a CloseMessage; its code is 1006 where no Close frame came.
        An override may leave this argument out.
        """
        logger.debug('client %s disconnected: %r', client, message)

    def onping(self, client: Connection, payload: bytes) -> None:
        """Called with the payload of a ping, which has been answered."""
        logger.debug('client %s pinged %r', client, payload)

    def onpong(self, client: Connection, payload: bytes) -> None:
        """Called with the payload of a pong, asked for or not."""
        logger.debug('client %s ponged %r', client, payload)

    def onsent(self, client: Connection, message: Message) -> None:
        """Called when a message that was sent has left this process.

        In the order of sending, once the system has taken all of it; the
        peer may not have it yet. Not called for messages that a client's
        end overtakes. Override it on the class, or before `start()`: only
        then is the departure of messages followed.
        """

    def onerror(self, client: Connection | None, error: Exception) -> None:
        """Called with what a handler raised; logs it with its traceback.

        client: None where it happened outside a connection, in `onrequest`
        or where a password was looked at.
        """
        if client is None:
            logger.error('a request: handler raised %r', error, exc_info=error)
            return
        logger.error(
            'client %s: handler raised %r', client, error, exc_info=error
        )

    def onrequest(self, request: Request) -> Response | None:
        """Called with a plain HTTP request (GET or HEAD).

        Return a Response, or None to answer 426 with advice. The connection
        is closed after the answer.
        """
        return None

    # Life

    def run(self, workers: int | None = None, loops: int = 1) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop()`, then close every client.

        Clients get a Close frame with 1001 and up to `max_join_time` seconds
        to answer. A second Ctrl-C ends them at once. Handlers run on threads
        of the server, never on the calling one, so that a signal does not cut
        them in half. SystemExit in a handler stops the server and is raised
        here. A server can run once, else RuntimeError. It needs the main
        interpreter, as others have no threads that end with the process.

        workers: how many processes to serve with, to use as many cores: the
        handlers of one process share its GIL, which free-threaded builds
        switch on for this version, too. The processes are forked here and
        share the port, and the system spreads the clients over them. Each has
        its own clients and its own copy of all objects: `clients`,
        `broadcast()` and options that limit count for one worker. `worker`
        tells which one this is.

        A worker that crashes, or gets a SIGTERM of its own, is replaced, after
        a pause that grows from 0.1 to 5 seconds where it happens again and
        again. Ctrl-C or SIGTERM to this process, its death, `stop()` or
        SystemExit in a handler of any worker stop them all; one that has not
        ended two seconds after `max_join_time` is killed. What follows run()
        happens in this process only, and so does `atexit`. No other thread
        may run yet, else RuntimeError; so where no worker could start.

        loops: how many loops each process serves with, see `start()`: for
        interpreters without a GIL, as workers are for those with one.
        """
        check_number('loops', loops, 'a number of loops')
        # An override of start() need not take an argument.
        start = self.start if loops == 1 else partial(self.start, loops)
        if workers is None:
            self._runner.run(start)
        else:
            run_workers(self._runner, check_count(workers), start)

    def start(self, loops: int = 1) -> Self:
        """Serve in the background; returns the server itself.

        loops: how many loops to serve with in this process, each with its own
        threads and its own share of the clients, which the system spreads
        over them. Without a GIL, N loops use N cores: the handlers of
        different loops run in parallel, quick ones too, so that what they
        share needs a lock. With a GIL, which free-threaded builds switch on
        for this version as well, loops work but gain nothing: what uses all
        cores there is `run(workers=N)`.

        `clients`, `broadcast()`, `stats()`, `stop()` and `max_clients` are
        for all loops together, and handlers may use clients of other loops.
        `max_threads` is divided among the loops, with 2 at least for each
        where it is not 1; `max_half_open` counts for each loop.
        """
        self._runner.start(
            self,
            loops,
            tells_sent=_overrides(self.onsent, Server.onsent),
            asks_handshake=_overrides(self.onhandshake, Server.onhandshake),
        )
        return self

    def stop(
        self, code: int = 1001, reason: str = 'server is stopping'
    ) -> None:
        """Stop accepting, close every client and wait until they are gone.

        code, reason: what the Close frames say. Waits up to `max_join_time`
        seconds for clients, and one more for running handlers; called in a
        handler it returns at once. A server that was not started can't be
        afterwards. Any thread. In the parent of workers it stops all of them,
        without waiting.
        """
        self._runner.stop(code, reason)

    def reload_certificates(self) -> None:
        """Read the files of `ssl_args` again, without a restart.

        Connections that come from now on get the new certificates and keys;
        those that are open keep theirs, and their sessions can be resumed.
        Raises SSLError or OSError where the files can't be used, and the old
        ones stay; RuntimeError for a server without `ssl_args`. Any thread,
        also in a handler; in the parent of workers it counts for all of them,
        one after the other. A signal handler may call it, for SIGHUP say.
        """
        self._runner.reload_certificates()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
