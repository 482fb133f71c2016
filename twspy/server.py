"""The server: its threads, signals and logging around the loop in C."""

from __future__ import annotations

import atexit
import logging
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from ._twspy import Connection, Message
from ._twspy import Server as _Loop
from .http import Request, Response

logger = logging.getLogger('twspy.server')

_BACKLOG = 1024

_running: weakref.WeakSet[Server] = weakref.WeakSet()


class Server(_Loop):
    """A server whose handlers are called for each client.

    Override `onopen`, `onmessage`, `onclose`, `onping`, `onpong`, `onerror`
    and `onrequest`, then call `run()`. A client is a `Connection`: handlers
    may call its `send()`, `recv()` and `close()`. Handlers of one client are
    called in order and never overlap.

    address: `(host, port)`. `''` as the host means all IPv4 addresses,
    `'::'` all IPv4 and IPv6 ones; port 0 picks a free port, which `address`
    tells. The constructor binds, and raises OSError where it can't.

    loglevel: level of the logger `twspy.server`, which tells of start and
    stop at INFO and of clients and messages at DEBUG. Where logging is not
    configured, it writes to standard error.

    max_join_time: seconds that a stop waits for clients to answer the Close
    frame, and for running handlers.

    options: `protocols` (subprotocols it speaks), `trusted_origins`
    (`'same-origin'` or a list of origins; empty: every web page may connect),
    `locations` (paths it serves; empty: all), `max_size` (bytes in a message,
    1 MiB; None: no limit), `open_timeout` (seconds for the opening handshake,
    10) and `close_timeout` (seconds for the closing one, 2).
    """

    def __init__(
        self,
        address: tuple[str, int],
        loglevel: int | str = logging.INFO,
        ssl_args: None = None,
        max_join_time: float = 2.0,
        **options: Any,
    ) -> None:
        if ssl_args is not None:
            raise TypeError(
                'ssl_args is not supported by this version of twspy: leave '
                'it None'
            )
        self._listener = _bind(address)
        self._address = self._listener.getsockname()
        try:
            super().__init__(self._listener, **options)
        except BaseException:
            self._listener.close()
            raise
        self.max_join_time = max_join_time
        self._thread: threading.Thread | None = None
        self._stop_asked = threading.Event()
        self._done = threading.Event()
        self._interrupted = False
        self._failure: BaseException | None = None
        self._accept_paused = False
        logger.setLevel(loglevel)

    @property
    def address(self) -> Any:
        """The bound address, with the real port where 0 was asked for."""
        return self._address

    def __repr__(self) -> str:
        if self._thread is None:
            state = 'not started'
        elif self._done.is_set():
            state = 'stopped'
        else:
            state = 'running'
        return f'<{type(self).__name__} {self._address!r} {state}>'

    # Handlers

    def onopen(self, client: Connection) -> None:
        """Called when a client has connected."""
        logger.debug('client %s connected', client)

    def onmessage(self, client: Connection, message: Message) -> None:
        """Called with each TextMessage or BinaryMessage of a client."""
        logger.debug('client %s sent %r', client, message)

    def onclose(self, client: Connection, message: Any) -> None:
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

    def onerror(self, client: Connection | None, error: Exception) -> None:
        """Called with what a handler raised; logs it with its traceback.

        client: None where it happened outside a connection, in `onrequest`.
        """
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

    def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop()`, then close every client.

        Clients get a Close frame with 1001 and up to `max_join_time` seconds
        to answer. A second Ctrl-C ends them at once. Handlers run on threads
        of the server, never on the calling one, so that a signal does not cut
        them in half. SystemExit in a handler stops the server and is raised
        here; a server can run once.
        """
        with _handling_signals(self._interrupt):
            try:
                self.start()
                # Not for ever: a signal that the system delivers to another
                # thread does not wake this one, which has to handle it.
                while not self._stop_asked.wait(1.0):
                    pass
                # Once more: a signal may have come before it could be heard.
                self._stop(1001, 'server is stopping', self.max_join_time)
                self._join()
            except KeyboardInterrupt:
                self._stop(1001, 'server is stopping', 0)
                self._done.wait(1.0)

    def start(self) -> Server:
        """Serve in the background; returns the server itself."""
        self._listen(_BACKLOG, self.max_join_time)
        host = _format_address(self._address)
        logger_ready = logger.hasHandlers()
        if not logger_ready:
            _log_to_stderr()
        self._thread = threading.Thread(
            target=self._serve, name=f'twspy-server {host}', daemon=True
        )
        self._thread.start()
        _running.add(self)
        logger.info('listening on %s', host)
        return self

    def stop(
        self, code: int = 1001, reason: str = 'server is stopping'
    ) -> None:
        """Stop accepting, close every client and wait until they are gone.

        Waits up to `max_join_time` seconds; called in a handler it returns at
        once. Does nothing on a server that is not running. Any thread.
        """
        if self._thread is None:
            self._listener.close()
            return
        self._stop(code, reason, self.max_join_time)
        self._stop_asked.set()
        if threading.current_thread() is not self._thread:
            self._join()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        try:
            self._drive()
        except BaseException as error:
            self._failure = error
        finally:
            self._listener.close()
            _running.discard(self)
            logger.info(
                'stopped listening on %s', _format_address(self._address)
            )
            self._done.set()
            self._stop_asked.set()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Stop in good order at the first signal, at once at the second."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        self._stop(1001, 'server is stopping', self.max_join_time)
        self._stop_asked.set()

    def _join(self) -> None:
        """Wait for the loop to end; say so where a handler never returns."""
        if not self._done.wait(self.max_join_time + 1.0):
            logger.warning(
                'a handler has not returned within %s s of the stop: '
                'leaving its thread behind',
                self.max_join_time + 1.0,
            )
            _running.discard(self)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # What the loop reports

    def _log_refused(self, peer: str, status: int, reason: str) -> None:
        logger.debug('client %s refused with %d: %s', peer, status, reason)

    def _log_accept_paused(self, errno: int, what: str) -> None:
        if not self._accept_paused:
            self._accept_paused = True
            logger.warning(
                'can accept no more clients for now (%s failed with errno '
                '%d): raise the limit of open files, or lower the number of '
                'clients',
                what,
                errno,
            )


def _bind(address: tuple[str, int]) -> socket.socket:
    """Return a socket bound to (host, port)."""
    try:
        host, port = address
    except (TypeError, ValueError):
        raise TypeError(
            f"address is {address!r}, expected (host, port) such as ('', 8000)"
        ) from None
    family, sockaddr = _resolve(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            dual_stack = host == '::'
            sock.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack)
            )
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _resolve(host: str, port: int) -> tuple[int, Any]:
    if host == '':
        return socket.AF_INET, ('', port)
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return found[0][0], found[0][4]


def _format_address(address: Any) -> str:
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def _log_to_stderr() -> None:
    """Give the logger an output where nobody has configured logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s')
    )
    logger.addHandler(handler)


@contextmanager
def _handling_signals(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[None]:
    """Give SIGINT and SIGTERM to a handler where nobody else has use for
    them. An exception that interrupts the calling thread anywhere could hit
    it before it is ready for that; a handler can't."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        defaults: dict[int, Any] = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
        }
        for number, default in defaults.items():
            if signal.getsignal(number) == default:
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@atexit.register
def _stop_running() -> None:
    for server in list(_running):
        server.stop()
