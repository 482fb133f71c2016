"""The server: its handlers, and how it starts and stops."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from ._binding import bind, format_address
from ._runner import Runner
from ._twspy import Connection, Message
from ._twspy import Server as _Loop
from .http import Request, Response

logger = logging.getLogger('twspy.server')


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
    frame, and for running handlers; None: as long as it takes.

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
        max_join_time: float | None = 2.0,
        **options: Any,
    ) -> None:
        if ssl_args is not None:
            raise TypeError(
                'ssl_args is not supported by this version of twspy: leave '
                'it None'
            )
        listener = bind(address)
        try:
            super().__init__(listener, **options)
            logger.setLevel(loglevel)
        except BaseException:
            listener.close()
            raise
        self._bound = listener.getsockname()
        self._runner = Runner(
            format_address(self._bound), max_join_time, listener.close
        )

    @property
    def address(self) -> Any:
        """The bound address, with the real port where 0 was asked for."""
        return self._bound

    @property
    def max_join_time(self) -> float | None:
        """Seconds that a stop waits for clients and running handlers."""
        return self._runner.patience

    def __repr__(self) -> str:
        name = type(self).__name__
        return f'<{name} {self._bound!r} {self._runner.state}>'

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
        to answer. A second Ctrl-C ends them at once. Handlers run on a thread
        of the server, never on the calling one, so that a signal does not cut
        them in half. SystemExit in a handler stops the server and is raised
        here. A server can run once, else RuntimeError. It needs the main
        interpreter, as others have no threads that end with the process.
        """
        self._runner.run(self.start)

    def start(self) -> Server:
        """Serve in the background; returns the server itself."""
        self._runner.start(self)
        return self

    def stop(
        self, code: int = 1001, reason: str = 'server is stopping'
    ) -> None:
        """Stop accepting, close every client and wait until they are gone.

        code, reason: what the Close frames say. Waits up to `max_join_time`
        seconds; called in a handler it returns at once. Does nothing on a
        server that is not running. Any thread.
        """
        self._runner.stop(code, reason)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
