"""Mistakes that a review of the Connection and Server types found, each
named after what it catches."""

from __future__ import annotations

import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from rawpeer import CLOSE, PING, TEXT, RawPeer, close_payload, pack
from servers import SOON, EchoServer

import twspy


@pytest.fixture
def ends() -> Iterator[tuple[twspy.Connection, twspy.Connection]]:
    client, server = twspy.pair(close_timeout=1.0)
    yield client, server
    client.sock.close()
    server.sock.close()


def wire_of(conn: twspy.Connection) -> socket.socket:
    """The socket of one end, to write bytes past the library."""
    return socket.socket(fileno=os.dup(conn.sock.fileno()))


def connect(server: twspy.Server) -> twspy.Connection:
    return twspy.connect(f'ws://127.0.0.1:{server.address[1]}/')


def in_thread(function: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


# Objects that are half made


def test_server_without_init_says_so() -> None:
    class Forgetful(twspy.Server):
        def __init__(self) -> None:
            pass

    server = Forgetful()
    with pytest.raises(RuntimeError, match=r'super\(\)\.__init__'):
        server.max_size  # noqa: B018
    assert server.broadcast('nobody hears it') == 0
    assert server.clients == []


def test_bad_loglevel_leaves_no_socket_open() -> None:
    # The unclosed listener would be a ResourceWarning, here an error.
    with pytest.raises(ValueError, match='nonsense'):
        twspy.Server(('127.0.0.1', 0), loglevel='nonsense')
    gc.collect()


# Closing


def test_close_with_only_a_reason_sends_it(
    ends: tuple[twspy.Connection, twspy.Connection],
) -> None:
    client, server = ends
    thread = in_thread(lambda: client.close(reason='bye'))
    with pytest.raises(twspy.SocketClosed) as caught:
        server.recv(timeout=SOON)
    thread.join(SOON)
    assert (caught.value.code, caught.value.reason) == (1000, 'bye')


def test_socket_closed_below_ends_the_connection() -> None:
    closed: list[Any] = []

    class Noting(twspy.Connection):
        def onclose(self, message: Any) -> None:
            closed.append(message.code)

    client, server = twspy.pair()
    conn = Noting(client.sock)
    conn.sock.close()
    with pytest.raises(twspy.SocketClosed):
        conn.send('x')
    with pytest.raises(twspy.SocketClosed):
        conn.recv()
    assert conn.state == 'closed'
    conn.receive_forever()
    conn.receive_forever()
    assert closed == [1006]
    server.sock.close()


def test_signal_handler_closes_while_its_thread_receives(
    ends: tuple[twspy.Connection, twspy.Connection],
) -> None:
    client, server = ends
    took: list[float] = []

    def close(number: int, frame: Any) -> None:
        began = time.monotonic()
        client.close(1001, 'signalled')
        took.append(time.monotonic() - began)

    def answer() -> None:
        with pytest.raises(twspy.SocketClosed):
            server.recv()

    thread = in_thread(answer)
    before = signal.signal(signal.SIGALRM, close)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(twspy.SocketClosed) as caught:
            client.recv(timeout=SOON)
    finally:
        signal.signal(signal.SIGALRM, before)
    thread.join(SOON)
    assert caught.value.code == 1001, 'the answer was not waited for'
    assert took[0] < 0.9, 'it waited for itself'


def test_frame_hook_closes_while_receiving(
    ends: tuple[twspy.Connection, twspy.Connection],
) -> None:
    client, server = ends
    client.sock.settimeout(SOON)

    def hook(frame: twspy.Frame) -> twspy.Frame:
        client.close(1001)
        return frame

    def talk() -> None:
        server.send('x')
        with pytest.raises(twspy.SocketClosed):
            server.recv()

    client.sock.add_hook(recv=hook)
    thread = in_thread(talk)
    with pytest.raises(twspy.SocketClosed) as caught:
        client.recv()
    thread.join(SOON)
    assert caught.value.code == 1001


# Nothing is lost


def test_hook_added_amid_a_frame_loses_nothing(
    ends: tuple[twspy.Connection, twspy.Connection],
) -> None:
    client, server = ends
    with wire_of(server) as wire:
        wire.sendall(b'\x81\x0ahello')
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        client.sock.add_hook(recv=lambda frame: frame)
        wire.sendall(b'world\x81\x01!')
        assert client.recv(timeout=SOON).payload == 'helloworld'
        assert client.recv(timeout=SOON).payload == '!'


def test_connection_takes_over_what_its_websocket_has_read(
    ends: tuple[twspy.Connection, twspy.Connection],
) -> None:
    sock = ends[0].sock
    with wire_of(ends[1]) as wire:
        wire.sendall(b'\x81\x01a\x81\x0ahello')
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recvn(3)  # keeps the first, and half of the second
        conn = twspy.Connection(sock)
        wire.sendall(b'world\x81\x01!')
        texts = [conn.recv(timeout=SOON).payload for _ in range(3)]
    assert texts == ['a', 'helloworld', '!']


@pytest.mark.parametrize('hooked', [False, True])
def test_control_message_is_never_fragmented(
    ends: tuple[twspy.Connection, twspy.Connection], hooked: bool
) -> None:
    client, server = ends
    if hooked:
        server.sock.add_hook(send=lambda frame: frame)
    server.send(twspy.Message(twspy.OPCODE_PING, b'abc'), fragment_size=1)
    frame = client.sock.recv()
    assert (frame.opcode, frame.payload) == (twspy.OPCODE_PING, b'abc')


# Clients of a server


class Calling(EchoServer):
    """Calls a function with each new client, on the server's thread."""

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def onopen(self, client: twspy.Connection) -> None:
        super().onopen(client)
        self.function(client)


def test_iterating_over_a_served_client_ends_quietly() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def read_all(client: twspy.Connection) -> None:
        seen.put([message.payload for message in client])

    with Calling(read_all) as server:
        peer = connect(server)
        peer.send('x')
        peer.close(1001)
        assert seen.get(timeout=SOON) == ['x']


def test_recv_of_a_served_client_after_its_end() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    class Reading(EchoServer):
        def onclose(self, client: twspy.Connection, message: Any) -> None:
            try:
                client.recv()
            except twspy.SocketClosed as error:
                seen.put((error.code, error.reason))
            super().onclose(client, message)

    with Reading() as server:
        connect(server).close(3000, 'enough')
        assert seen.get(timeout=SOON) == (3000, 'enough')
        client = server.wait_for('close')[0]
        with pytest.raises(twspy.SocketClosed, match='enough'):
            client.recv()


def test_close_in_a_handler_waits_for_close_timeout_only() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def close_and_read(client: twspy.Connection) -> None:
        began = time.monotonic()
        client.close()
        with pytest.raises(twspy.SocketClosed):
            client.recv(timeout=5)
        seen.put(time.monotonic() - began)

    with Calling(close_and_read, close_timeout=0.3) as server:
        peer = RawPeer.connect(server.address)
        assert 0.2 < seen.get(timeout=SOON) < 3
        peer.sock.close()


def test_control_message_to_a_served_client_is_never_fragmented() -> None:
    def ping(client: twspy.Connection) -> None:
        ping = twspy.Message(twspy.OPCODE_PING, b'abc')
        client.send(ping, fragment_size=1)
        client.sock.add_hook(send=lambda frame: frame)
        client.send(ping, fragment_size=1)
        client.send(ping)

    with Calling(ping) as server:
        peer = RawPeer.connect(server.address)
        for _ in range(3):
            frame = peer.read_frame()
            assert (frame.opcode, frame.fin) == (PING, True)
            assert frame.payload == b'abc'
        peer.sock.close()


def test_send_by_way_of_sock_hooks_after_the_end_is_socket_closed() -> None:
    with EchoServer() as server:
        peer = connect(server)
        client = server.wait_for('open')[0]
        client.sock.add_hook(send=lambda frame: frame)
        peer.close(3000, 'enough')
        server.wait_for('close')
        with pytest.raises(twspy.SocketClosed, match='enough'):
            client.send('too late')


def test_threads_that_ask_for_sock_get_the_same_one() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with EchoServer() as server:
            for _ in range(100):
                peer = RawPeer.connect(server.address)
                client = server.wait_for('open', peer)[0]
                got: list[twspy.websocket] = []
                start = threading.Barrier(4)

                def ask(
                    client: Any = client, got: Any = got, start: Any = start
                ) -> None:
                    start.wait()
                    got.append(client.sock)

                threads = [in_thread(ask) for _ in range(4)]
                for thread in threads:
                    thread.join(SOON)
                peer.sock.close()
                server.wait_for('close', peer)
                assert len({id(sock) for sock in got}) == 1
                # Else its number would be another socket's soon.
                assert [sock.fileno() for sock in got] == [-1] * 4
    finally:
        sys.setswitchinterval(interval)


def test_client_outlives_its_server() -> None:
    server = EchoServer().start()
    peer = RawPeer.connect(server.address)
    client = server.wait_for('open', peer)[0]
    sock = client.sock
    server.stop()
    gone = weakref.ref(server)
    del server
    peer.sock.close()
    gc.collect()
    assert client.state == 'closed'
    with pytest.raises(twspy.SocketClosed):
        client.send('x')
    with pytest.raises(twspy.SocketClosed):
        client.recv()
    assert sock.fileno() == -1
    del client, sock
    gc.collect()
    assert gone() is None


class ReadingOn(twspy.Server):
    """Asks for the next message when one of its own has left."""

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0))
        self.seen: list[str] = []
        self.told: queue.Queue[str] = queue.Queue()

    def note(self, message: Any) -> None:
        self.seen.append(message.payload)
        if message.payload == 'last':
            self.told.put('')

    def onmessage(self, client: Any, message: Any) -> None:
        self.note(message)
        if message.payload == '0':
            client.send('reply')

    def onsent(self, client: Any, message: Any) -> None:
        self.note(client.recv(timeout=SOON))


def test_recv_in_onsent_goes_on_where_a_turn_has_ended() -> None:
    # More than are served in one turn, so that some are kept for the next.
    sent = [*map(str, range(2000)), 'last']
    with ReadingOn() as server, RawPeer.connect(server.address) as peer:
        peer.send(b''.join(pack(TEXT, each.encode()) for each in sent))
        server.told.get(timeout=SOON)
        assert server.seen == sent


def test_what_recv_in_onsent_leaves_is_served() -> None:
    sent = ['0', '1', '2', '3', 'last']
    with ReadingOn() as server, RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'0')
        assert peer.read_frame().payload == b'reply'
        peer.send(b''.join(pack(TEXT, each.encode()) for each in sent[1:]))
        server.told.get(timeout=SOON)
        assert server.seen == sent


# broadcast()


def test_broadcast_of_a_close_message_closes() -> None:
    with EchoServer() as server:
        peer = RawPeer.connect(server.address)
        client = server.wait_for('open', peer)[0]
        assert server.broadcast(twspy.CloseMessage(1001, 'bye')) == 1
        assert client.state == 'closing'
        with pytest.raises(twspy.SocketClosed):
            client.send('too late')
        frame = peer.read_frame()
        assert (frame.opcode, frame.close_code) == (CLOSE, 1001)
        peer.send_frame(CLOSE, close_payload(1001))
        assert server.wait_for('close', peer)[1] == 1001
        peer.sock.close()


def test_broadcast_with_a_bad_exclude_touches_nothing_else() -> None:
    class Targets:
        def __iter__(self) -> Iterator[Any]:
            touched.append(True)
            return iter(())

    touched: list[bool] = []
    nobody: Any = 5
    with EchoServer() as server, pytest.raises(TypeError):
        server.broadcast('x', to=Targets(), exclude=nobody)
    assert not touched, 'it ran with an exception pending'


# URLs


@pytest.mark.parametrize('url', [None, 5, b'ws://localhost/'])
def test_url_of_another_type_is_a_type_error(url: Any) -> None:
    with pytest.raises(TypeError, match='expected a str'):
        twspy.connect(url)
