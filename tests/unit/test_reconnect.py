"""reconnect(): when it connects, how long it waits, when it gives up.

Time, waiting and chance are the test's own here; tests/integration has those
against real servers.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import twspy
from twspy import HandshakeError, Headers, SSLError
from twspy._reconnecting import is_passing, retry_after

URL = 'ws://user:s3cret@127.0.0.1:1/feed?token=s3cret'


class FakeDialer:
    """Fails or connects as it is told."""

    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.cancelled = 0
        self.dialled = 0

    def __str__(self) -> str:
        return 'ws://127.0.0.1:1/feed?...'

    def dial(self) -> twspy.Connection:
        self.dialled += 1
        step = self.script.pop(0)
        if callable(step) and not isinstance(step, twspy.Connection):
            step = step()
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, twspy.Connection)
        return step

    def cancel(self) -> None:
        self.cancelled += 1


class Fake(twspy.Reconnecting[twspy.Connection]):
    """Time passes only where a test lets it; each delay is its bound."""

    def __init__(self, *script: Any, **options: Any) -> None:
        self.time = 1000.0
        self.delays: list[float] = []
        self.on_wait: Callable[[], object] = lambda: None
        self.dialer = FakeDialer(list(script))
        super().__init__(URL, connection_class=twspy.Connection, **options)

    def _make_dialer(self, **options: Any) -> Any:
        return self.dialer

    def _now(self) -> float:
        return self.time

    def _wait(self, delay: float) -> bool:
        self.delays.append(delay)
        self.time += delay
        self.on_wait()
        return self._stopped.is_set()

    def _pick(self, most: float) -> float:
        return most


@pytest.fixture
def connected() -> Iterator[Callable[[], twspy.Connection]]:
    """Makes connections whose other end stays silent."""
    made: list[twspy.Connection] = []

    def make() -> twspy.Connection:
        ends = twspy.pair(close_timeout=0.01)
        made.extend(ends)
        return ends[0]

    yield make
    for connection in made:
        connection.sock.close()


def down() -> ConnectionRefusedError:
    return ConnectionRefusedError(111, 'Connection refused')


def answered(status: int | None, **fields: str) -> HandshakeError:
    headers = Headers({n.replace('_', '-'): v for n, v in fields.items()})
    return HandshakeError('the server answered', status, headers)


Make = Callable[[], twspy.Connection]


# --- when it connects ---


def test_first_connection_at_once(connected: Make) -> None:
    connections = Fake(connected)
    assert iter(connections) is connections
    assert next(connections).state == 'open'
    assert connections.delays == []


def test_one_after_the_other(connected: Make) -> None:
    connections = Fake(connected, connected, connected)
    seen = []
    for connection in connections:
        for old in seen:
            assert old.state == 'closed'
        assert connection.state == 'open'
        seen.append(connection)
        if len(seen) == 3:
            break
    assert seen[-1].state == 'open', 'break leaves it as it is'
    assert len(connections.delays) == 2


def test_a_connection_that_is_closed_already(connected: Make) -> None:
    connections = Fake(connected, connected)
    next(connections).sock.close()
    assert next(connections).state == 'open'


def test_what_the_body_raises_is_not_ours(connected: Make) -> None:
    with pytest.raises(LookupError):
        for _ in Fake(connected):
            raise LookupError


# --- how long it waits ---


def test_delays_grow_to_a_limit(connected: Make) -> None:
    connections = Fake(*[down() for _ in range(10)], connected)
    next(connections)
    assert connections.delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_delays_as_they_are_asked_for(connected: Make) -> None:
    connections = Fake(
        *[down() for _ in range(5)],
        connected,
        initial_delay=2,
        backoff_factor=3,
        max_delay=20,
    )
    next(connections)
    assert connections.delays == [2, 6, 18, 20, 20]


def test_first_delay_is_limited_too(connected: Make) -> None:
    connections = Fake(down(), down(), connected, max_delay=0.1)
    next(connections)
    assert connections.delays == [0.1, 0.1]


def test_no_delay_at_all(connected: Make) -> None:
    connections = Fake(down(), down(), connected, initial_delay=0)
    next(connections)
    assert connections.dialer.dialled == 3
    assert connections.delays == []


def test_a_thousand_failures_overflow_nothing(connected: Make) -> None:
    connections = Fake(*[down() for _ in range(3000)], connected)
    next(connections)
    assert connections.delays[-1] == 60


def test_a_connection_that_lasted_begins_anew(connected: Make) -> None:
    connections = Fake(*[down()] * 5, connected, down(), connected)
    next(connections)
    connections.time += 10
    connections.delays.clear()
    next(connections)
    assert connections.delays == [0.5, 1]


def test_a_connection_that_did_not_last_does_not(connected: Make) -> None:
    """A server that accepts and drops at once is not hammered."""
    connections = Fake(*[connected] * 6)
    for _ in range(5):
        next(connections)
        connections.time += 9.9
    assert connections.delays == [0.5, 1, 2, 4]
    connections = Fake(*[connected] * 6, stable_after=9)
    for _ in range(5):
        next(connections)
        connections.time += 9.9
    assert connections.delays == [0.5] * 4


def test_delays_are_random() -> None:
    """Full jitter: anything from nothing to the bound."""

    class Real(Fake):
        def _pick(self, most: float) -> float:
            assert most == 8
            return twspy.Reconnecting._pick(self, most)

    failures = [down() for _ in range(400)]
    connections = Real(
        *failures, ValueError(), initial_delay=8, backoff_factor=1
    )
    with pytest.raises(ValueError):
        next(connections)
    delays = connections.delays
    assert all(0 <= delay <= 8 for delay in delays)
    assert min(delays) < 1
    assert max(delays) > 7
    assert len(set(delays)) > 300


@pytest.mark.parametrize(
    ('value', 'extra'),
    [
        ('7', 7),
        ('0', 0),
        (' 7 ', 7),
        ('3600', 60),
        ('9' * 100, 60),
        ('-5', 0),
        ('1.5', 0),
        ('soon', 0),
        ('', 0),
        ('Sun, 06 Nov 1994 08:49:37 GMT', 0),
        ('Sun, 06 Nov 9994 08:49:37 GMT', 60),
        ('Sun, 99 Nov 9994 08:49:37 GMT', 0),
    ],
)
def test_retry_after(connected: Make, value: str, extra: float) -> None:
    connections = Fake(answered(503, Retry_After=value), connected)
    next(connections)
    assert connections.delays == [0.5 + extra]


def test_retry_after_as_a_date() -> None:
    error = answered(429, Retry_After='Sun, 06 Nov 1994 08:49:37 GMT')
    assert retry_after(error, 784111777.0 - 30) == 30
    assert retry_after(error, 784111777.0 + 30) == 0
    assert retry_after(down(), 0) is None


# --- when it gives up ---


@pytest.mark.parametrize(
    ('error', 'passes'),
    [
        (down(), True),
        (TimeoutError('timed out'), True),
        (socket.gaierror(-3, 'Temporary failure'), True),
        (socket.gaierror(-2, 'Name or service not known'), True),
        (OSError(101, 'Network is unreachable'), True),
        (answered(429), True),
        (answered(500), True),
        (answered(502), True),
        (answered(503), True),
        (answered(504), True),
        (answered(None), True),
        (answered(101), False),
        (answered(200), False),
        (answered(302), False),
        (answered(400), False),
        (answered(401), False),
        (answered(403), False),
        (answered(404), False),
        (answered(407), False),
        (answered(426), False),
        (answered(501), False),
        (answered(505), False),
        (SSLError('certificate has expired'), False),
        (ValueError('no'), False),
        (TypeError('no'), False),
        (LookupError('no'), False),
        (MemoryError(), False),
    ],
)
def test_what_passes(connected: Make, error: Exception, passes: bool) -> None:
    assert is_passing(error) is passes
    connections = Fake(error, connected)
    if passes:
        assert next(connections).state == 'open'
        assert len(connections.delays) == 1
    else:
        with pytest.raises(type(error)) as caught:
            next(connections)
        assert caught.value is error
        assert connections.delays == []


def test_attempts(connected: Make) -> None:
    last = down()
    connections = Fake(
        down(), down(), connected, down(), down(), last, attempts=3
    )
    next(connections)
    with pytest.raises(ConnectionRefusedError) as caught:
        next(connections)
    assert caught.value is last
    assert connections.dialer.dialled == 6


def test_retry_decides(connected: Make) -> None:
    seen = []

    def retry(error: Exception) -> bool | None:
        seen.append(error)
        if isinstance(error, SSLError):
            return True
        if isinstance(error, TimeoutError):
            return False
        return None

    script = [SSLError('x'), down(), TimeoutError('y')]
    connections = Fake(*script, connected, retry=retry)
    with pytest.raises(TimeoutError):
        next(connections)
    assert seen == script
    assert len(connections.delays) == 2
    connections = Fake(answered(403), connected, retry=retry)
    with pytest.raises(HandshakeError):
        next(connections)


def test_attempts_count_what_retry_wants(connected: Make) -> None:
    connections = Fake(
        *[answered(403)] * 5, retry=lambda error: True, attempts=4
    )
    with pytest.raises(HandshakeError):
        next(connections)
    assert connections.dialer.dialled == 4


# --- stop() and close() ---


def test_stop_while_it_waits() -> None:
    connections = Fake(down(), down())
    connections.on_wait = connections.stop
    assert list(connections) == []
    assert connections.dialer.dialled == 1
    assert connections.dialer.cancelled == 1
    assert list(connections) == []


def test_stop_while_it_connects() -> None:
    def cancelled() -> OSError:
        connections.stop()
        return OSError(9, 'closed')

    connections = Fake(cancelled)
    assert list(connections) == []
    assert connections.delays == []


def test_stop_as_it_has_connected(connected: Make) -> None:
    made = connected()

    def late() -> twspy.Connection:
        connections.stop()
        return made

    connections = Fake(late)
    assert list(connections) == []
    assert made.state == 'closed'


def test_stop_leaves_the_connection(connected: Make) -> None:
    connections = Fake(connected)
    for connection in connections:
        connections.stop()
        connections.stop()
        assert connection.state == 'open'
    assert connection.state == 'closed'
    assert connections.dialer.dialled == 1


def test_close_closes_the_connection(connected: Make) -> None:
    connections = Fake(connected)
    connection = next(connections)
    connections.close()
    assert connection.state == 'closed'
    connections.close()
    assert list(connections) == []


def test_close_before_anything() -> None:
    connections = Fake()
    connections.close()
    assert list(connections) == []


def test_with(connected: Make) -> None:
    with Fake(connected) as connections:
        connection = next(connections)
    assert connection.state == 'closed'


def test_ctrl_c_while_it_waits() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    connections = Fake(down())
    connections.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        next(connections)


# --- what it says ---


def test_log(connected: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'twspy')
    connections = Fake(
        down(), answered(503, Retry_After='7'), connected, down(), connected
    )
    next(connections)
    connections.time += 3.5
    next(connections)
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ('twspy', 'INFO')
    ] * 4
    refused = 'ConnectionRefusedError: [Errno 111] Connection refused'
    assert caplog.messages == [
        'connecting to ws://127.0.0.1:1/feed?... failed (1 in a row), '
        f'trying again in 0.5 s: {refused}',
        'connecting to ws://127.0.0.1:1/feed?... failed (2 in a row), '
        'trying again in 8.0 s: HandshakeError: the server answered; header '
        'fields: Retry-After',
        'connection to ws://127.0.0.1:1/feed?... ended after 3.5 s',
        'connecting to ws://127.0.0.1:1/feed?... failed (1 in a row), '
        f'trying again in 4.0 s: {refused}',
    ]


def test_nothing_of_a_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('http_proxy', raising=False)
    url = 'ws://127.0.0.1:1/feed?token=s3cret'
    connections = twspy.reconnect(url, proxy=None)
    assert 's3cret' not in repr(connections)
    assert str(connections._dialer) == 'ws://127.0.0.1:1/feed?...'
    assert 's3cret' not in repr(connections._dialer)


# --- arguments ---


@pytest.mark.parametrize(
    ('options', 'error', 'why'),
    [
        ({'initial_delay': -1}, ValueError, 'initial_delay'),
        ({'initial_delay': float('nan')}, ValueError, 'initial_delay'),
        ({'initial_delay': '1'}, TypeError, 'initial_delay'),
        ({'backoff_factor': 0.5}, ValueError, 'backoff_factor'),
        ({'max_delay': float('inf')}, ValueError, 'max_delay'),
        ({'max_delay': None}, TypeError, 'max_delay'),
        ({'stable_after': True}, TypeError, 'stable_after'),
        ({'attempts': 0}, ValueError, 'attempts'),
        ({'attempts': 1.5}, ValueError, 'attempts'),
        ({'attempts': True}, ValueError, 'attempts'),
        ({'sock': socket.socket}, TypeError, 'sock'),
        ({'nonsense': 1}, TypeError, 'nonsense'),
        ({'max_size': -1}, ValueError, 'max_size'),
        ({'open_timeout': 0}, ValueError, 'open_timeout'),
        ({'proxy': 'junk://'}, ValueError, 'proxy'),
        ({'ssl_args': {'colour': 1}}, TypeError, 'colour'),
        ({'ssl_args': {'cafile': '/nowhere.pem'}}, OSError, 'nowhere'),
        ({'ssl': 5}, TypeError, 'SSLContext'),
        ({'auth': 'user:password'}, (TypeError, ValueError), 'auth'),
    ],
)
def test_bad_arguments_are_told_at_once(
    options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        twspy.reconnect('wss://127.0.0.1:1/', **options)


def test_a_unix_socket_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('http_proxy', 'junk://')
    twspy.reconnect('ws://localhost/', path='/no/such/socket')
    with pytest.raises(ValueError, match='http_proxy'):
        twspy.reconnect('ws://localhost/')


@pytest.mark.parametrize('url', ['', 'http://h', 'ws://h:x/'])
def test_bad_url_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match='url is'):
        twspy.reconnect(url)
