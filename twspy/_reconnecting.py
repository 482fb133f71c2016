"""Connections to one server, one after the other."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, Unpack, overload

from ._dialer import ConnectionT, Dialer
from ._handlers import refuse_option
from ._twspy import Connection, websocket
from .client import ConnectOptions
from .errors import HandshakeError, SSLError, WebSocketError

Retry = Callable[[Exception], bool | None]

_logger = logging.getLogger('twspy')

# Answers that mean "later": of the server, or of a proxy in front of it.
_LATER = frozenset((429, 500, 502, 503, 504))

_OPTIONS = frozenset(
    (
        *ConnectOptions.__annotations__,
        'connection_class',
        'initial_delay',
        'backoff_factor',
        'max_delay',
        'stable_after',
        'attempts',
        'retry',
    )
)

_random = random.SystemRandom()


class Reconnecting(Iterator[ConnectionT]):
    """What `reconnect()` returns: an iterator over connections to one server.

    One thread iterates; any thread may call `stop()` and `close()`. As a
    context manager it ends with `close()`.
    """

    __module__ = 'twspy'

    def __init__(
        self,
        url: str,
        *,
        connection_class: Callable[[websocket], ConnectionT],
        initial_delay: float = 0.5,
        backoff_factor: float = 2.0,
        max_delay: float = 60.0,
        stable_after: float = 10.0,
        attempts: int | None = None,
        retry: Retry | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        if options.get('sock') is not None:
            raise TypeError(
                'sock is given, but a socket can be connected only once: use '
                'connect()'
            )
        refuse_option('reconnect', options, _OPTIONS)
        _check_attempts(attempts)
        self._initial_delay = _check('initial_delay', initial_delay)
        self._factor = _check('backoff_factor', backoff_factor, least=1)
        self._max_delay = _check('max_delay', max_delay)
        self._stable_after = _check('stable_after', stable_after)
        self._attempts = attempts
        self._retry = retry
        self._dialer = self._make_dialer(
            url=url, connection_class=connection_class, **options
        )
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._connection: ConnectionT | None = None
        self._opened_at = 0.0
        self._is_first = True
        self._bound = self._initial_delay  # of the next delay
        self._failures = 0  # in a row

    def __repr__(self) -> str:
        state = 'stopped' if self._stopped.is_set() else 'active'
        return f'<{type(self).__name__} {self._dialer} {state}>'

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConnectionT:
        """Close the last connection if it is open, and open another one."""
        self._end_last()
        delay = 0.0
        if not self._is_first:
            delay = self._next_delay()
        self._is_first = False
        while True:
            if self._stopped.is_set() or (delay and self._wait(delay)):
                raise StopIteration
            try:
                connection = self._dialer.dial()
            except Exception as error:
                if self._stopped.is_set():
                    raise StopIteration from None
                delay = self._delay_after(error)
                continue
            if not self._begin(connection):
                raise StopIteration
            return connection

    def stop(self) -> None:
        """Open no further connection; the present one stays as it is.

        Ends the waiting for the next one, and a connecting that is under way,
        at once. Any thread may call it, more than once.
        """
        self._stopped.set()
        self._dialer.cancel()

    def close(self) -> None:
        """`stop()`, and close the present connection.

        Where another thread waits in its `recv()`, that one ends. Any thread
        may call it, more than once.
        """
        self.stop()
        with self._lock:
            connection = self._connection
        if connection is not None:
            _close(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- what tests replace ---

    def _make_dialer(
        self,
        *,
        url: str,
        connection_class: Callable[[websocket], ConnectionT],
        **options: Unpack[ConnectOptions],
    ) -> Dialer[ConnectionT]:
        dialer = Dialer(url=url, connection_class=connection_class, **options)
        dialer.check()
        return dialer

    def _now(self) -> float:
        return time.monotonic()

    def _wait(self, delay: float) -> bool:
        """True where stop() ended it."""
        return self._stopped.wait(delay)

    def _pick(self, most: float) -> float:
        return _random.uniform(0, most)

    # --- details ---

    def _begin(self, connection: ConnectionT) -> bool:
        """False where stop() came first."""
        self._failures = 0
        self._opened_at = self._now()
        with self._lock:
            is_stopped = self._stopped.is_set()
            if not is_stopped:
                self._connection = connection
        if is_stopped:
            _close(connection)
        return not is_stopped

    def _end_last(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        lived = self._now() - self._opened_at
        _close(connection)
        if lived >= self._stable_after:
            self._bound = self._initial_delay
        _logger.info(
            'connection to %s ended after %.1f s', self._dialer, lived
        )

    def _next_delay(self) -> float:
        """Anything up to a bound that grows: clients that lost their server
        at the same moment come back at different ones."""
        bound = min(self._bound, self._max_delay)
        self._bound = min(bound * self._factor, self._max_delay)
        return self._pick(bound)

    def _delay_after(self, error: Exception) -> float:
        """How long to wait after a failure, or the failure itself."""
        self._failures += 1
        again = self._retry(error) if self._retry is not None else None
        if again is None:
            again = is_passing(error)
        if not again:
            raise error
        if self._attempts is not None and self._failures >= self._attempts:
            raise error
        delay = self._next_delay()
        asked_for = retry_after(error, time.time())
        if asked_for is not None:
            delay += min(asked_for, self._max_delay)
        _logger.info(
            'connecting to %s failed (%d in a row), trying again in %.1f s: '
            '%s: %s',
            self._dialer,
            self._failures,
            delay,
            type(error).__name__,
            error,
        )
        return delay


def is_passing(error: Exception) -> bool:
    """Whether it may go better another time, of what connect() raises."""
    if isinstance(error, HandshakeError):
        # None: it broke off, as where a server is being restarted.
        return error.status is None or error.status in _LATER
    # A certificate that is not accepted stays as it is.
    return isinstance(error, OSError) and not isinstance(error, SSLError)


def retry_after(error: Exception, now: float) -> float | None:
    """Seconds that a server asks to wait (RFC 9110 section 10.2.3)."""
    if not isinstance(error, HandshakeError):
        return None
    value = error.headers.get('Retry-After', '').strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return max(until - now, 0.0)


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except (WebSocketError, OSError) as error:
        _logger.debug('closing %s: %s', connection, error)
        connection.sock.close()


def _check_attempts(attempts: int | None) -> None:
    if attempts is None or (type(attempts) is int and attempts >= 1):
        return
    raise ValueError(
        f'attempts is {attempts!r}, expected an int of at least 1, or None '
        'for no limit'
    )


def _check(name: str, value: float, least: float = 0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'{name} is {type(value).__name__}, expected a number')
    if not least <= value < math.inf:
        raise ValueError(
            f'{name} is {value!r}, expected a number of at least {least}'
        )
    return float(value)


@overload
def reconnect(
    url: str,
    *,
    initial_delay: float = 0.5,
    backoff_factor: float = 2.0,
    max_delay: float = 60.0,
    stable_after: float = 10.0,
    attempts: int | None = None,
    retry: Retry | None = None,
    **options: Unpack[ConnectOptions],
) -> Reconnecting[Connection]: ...
@overload
def reconnect(
    url: str,
    *,
    connection_class: Callable[[websocket], ConnectionT],
    initial_delay: float = 0.5,
    backoff_factor: float = 2.0,
    max_delay: float = 60.0,
    stable_after: float = 10.0,
    attempts: int | None = None,
    retry: Retry | None = None,
    **options: Unpack[ConnectOptions],
) -> Reconnecting[ConnectionT]: ...
def reconnect(
    url: str,
    *,
    connection_class: Callable[[websocket], Any] = Connection,
    initial_delay: float = 0.5,
    backoff_factor: float = 2.0,
    max_delay: float = 60.0,
    stable_after: float = 10.0,
    attempts: int | None = None,
    retry: Retry | None = None,
    **options: Unpack[ConnectOptions],
) -> Reconnecting[Any]:
    """Return an iterator that connects to `url`, again and again.

        for connection in twspy.reconnect('wss://example.com/feed'):
            try:
                for message in connection:
                    print(message.payload)
            except twspy.SocketClosed as error:
                print(error)

    The body of the loop deals with one connection. When it is through with
    it, for whatever reason, the connection is closed if it is open still, and
    the next one is opened. `break` leaves the loop and the connection as it
    is; `with twspy.reconnect(...) as connections:` closes it, too. stop() and
    close() of the iterator end the loop from another thread.

    ==============  ====  ==================================================
    initial_delay   0.5   seconds: most that the first delay takes
    backoff_factor  2.0   how much that grows with each further delay
    max_delay       60.0  seconds: how far it grows
    stable_after    10.0  seconds that a connection must have lasted for the
                          delays to begin anew
    attempts        None  failures to connect in a row before the last one is
                          raised; None: no limit
    retry           None  retry(error) -> bool or None: see below
    ==============  ====  ==================================================

    The first connection is opened at once. A delay is anything from zero to
    its bound at random, so that the clients of a server that was restarted
    don't come back at the same moment. `Retry-After` of a server is waited
    for in addition, up to `max_delay`.

    Connecting is tried again after an OSError (TimeoutError among them), and
    after a HandshakeError with status 429, 500, 502, 503 or 504 or without
    one. Every other failure is raised: what is wrong with arguments already
    here, SSLError as of a certificate, another status. `retry` decides
    otherwise: True tries again, False raises, None leaves it to these rules.

    connection_class and options: those of `connect()`, but for `sock`.

    Failures are logged by the logger `twspy` at INFO, without what `url` has
    of user name, password and query. Waiting ends at once with Ctrl-C.
    """
    return Reconnecting(
        url,
        connection_class=connection_class,
        initial_delay=initial_delay,
        backoff_factor=backoff_factor,
        max_delay=max_delay,
        stable_after=stable_after,
        attempts=attempts,
        retry=retry,
        **options,
    )
