"""reconnect() against real servers, with real waiting."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from rawends import in_thread
from rawpeer import RawPeer
from rawservers import Asked, response, say, serving, welcome
from servers import SOON, EchoServer

import twspy


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the tests says must not matter."""
    for name in ('http_proxy', 'all_proxy', 'HTTP_PROXY', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens unless the test does."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(('127.0.0.1', 0))
        yield sock.getsockname()[1]


class Echo(twspy.Server):
    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        client.send(message)


def test_a_server_that_comes_goes_and_comes_back(closed_port: int) -> None:
    waits = threading.Event()

    class Watched(twspy.Reconnecting[twspy.Connection]):
        def _wait(self, delay: float) -> bool:
            waits.set()
            return super()._wait(delay)

    def start() -> Echo:
        assert waits.wait(SOON)
        server = Echo(('127.0.0.1', port))
        server.start()
        return server

    port = closed_port
    codes = []
    server: object = None
    late = in_thread(start)
    for connection in Watched(
        f'ws://127.0.0.1:{port}/',
        connection_class=twspy.Connection,
        initial_delay=0.05,
        max_delay=0.1,
    ):
        server = late()
        assert isinstance(server, Echo)
        connection.send('hello')
        assert connection.recv(timeout=SOON).payload == 'hello'
        if len(codes) == 2:
            break
        waits.clear()
        stop = in_thread(server.stop)
        with pytest.raises(twspy.SocketClosed) as caught:
            connection.recv(timeout=SOON)
        assert stop() is None
        codes.append(caught.value.code)
        late = in_thread(start)
    assert codes == [1001, 1001]
    connection.close()
    server.stop()


def test_server_that_is_busy_for_a_moment() -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        busy = len(server.requests) < 3
        (say(response(503, b'later\n')) if busy else welcome)(peer, asked)

    with serving(react) as server:
        with twspy.reconnect(server.url, initial_delay=0.01) as connections:
            connection = next(connections)
            assert connection.state == 'open'
            connection.sock.close()
        assert len(server.requests) == 3


def test_server_that_does_not_want_us() -> None:
    with serving(say(response(403))) as server:
        with pytest.raises(twspy.HandshakeError, match='403'):
            next(twspy.reconnect(server.url))
        assert len(server.requests) == 1


def test_attempts(closed_port: int) -> None:
    connections = twspy.reconnect(
        f'ws://127.0.0.1:{closed_port}/', initial_delay=0.01, attempts=3
    )
    with pytest.raises(ConnectionRefusedError):
        next(connections)


def test_class_and_options_go_along() -> None:
    class Mine(twspy.Connection):
        pass

    with serving(welcome) as server:
        with twspy.reconnect(
            server.url,
            connection_class=Mine,
            headers={'X': 'y'},
            close_timeout=0.1,
        ) as connections:
            assert type(next(connections)) is Mine
            next(connections).sock.close()
    assert [asked.head['x'] for asked in server.requests] == ['y', 'y']


def test_stop_ends_the_waiting(closed_port: int) -> None:
    connections = twspy.reconnect(
        f'ws://127.0.0.1:{closed_port}/', initial_delay=1000, max_delay=1000
    )
    join = in_thread(lambda: list(connections))
    while connections._failures == 0:
        time.sleep(0.005)
    connections.stop()
    assert join() == []


def test_stop_ends_the_connecting() -> None:
    asked = threading.Event()
    with serving(lambda peer, head: asked.set()) as server:  # and no answer
        connections = twspy.reconnect(server.url, open_timeout=None)
        join = in_thread(lambda: list(connections))
        assert asked.wait(SOON)
        connections.stop()
        assert join() == []


def test_close_ends_recv() -> None:
    with EchoServer() as server:
        host, port = server.address
        connections = twspy.reconnect(f'ws://{host}:{port}/')
        opened = threading.Event()

        def receive() -> int:
            turns = 0
            for connection in connections:
                turns += 1
                opened.set()
                for message in connection:
                    raise AssertionError(message)
            return turns

        join = in_thread(receive)
        assert opened.wait(SOON)
        connections.close()
        assert join() == 1


def test_ctrl_c_ends_the_waiting(closed_port: int) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise LookupError

    connections = twspy.reconnect(
        f'ws://127.0.0.1:{closed_port}/', initial_delay=1000, max_delay=1000
    )
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(LookupError):
            next(connections)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
