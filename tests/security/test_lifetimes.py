"""Objects that go while they are in use: closed, aborted, dropped or begun
anew in every callback, while others are being sent to, and by peers that
vanish at every byte of a handshake. A crash ends the test run."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawends import (
    answer,
    client_end,
    in_thread,
    read_request,
    server_end,
    tcp_pair,
)
from rawpeer import CLOSE, PING, PONG, TEXT, RawPeer, close_payload, request
from servers import SOON

import twspy

Client = twspy.Connection


class Tampering(twspy.Server):
    """Calls `act` in one of its handlers, for one client."""

    def __init__(
        self,
        handler: str,
        act: Callable[[Tampering, Client], object],
        **options: Any,
    ) -> None:
        self.handler = handler
        self.act = act
        self.armed = False
        self.done = threading.Event()
        super().__init__(
            ('127.0.0.1', 0), loglevel='CRITICAL', close_timeout=0.1, **options
        )

    def _meet(self, handler: str, client: Client | None) -> None:
        if self.armed and handler == self.handler and client is not None:
            self.armed = False
            # What onerror raises has nowhere to go.
            known = Exception if handler == 'onerror' else ()
            try:
                with contextlib.suppress(known):
                    self.act(self, client)
            finally:
                self.done.set()

    def onhandshake(self, client: Client, request: twspy.Request) -> None:
        self._meet('onhandshake', client)

    def onopen(self, client: Client) -> None:
        client.add_hook(
            recv=lambda message: self._hook('recv hook', client, message),
            send=lambda message: self._hook('send hook', client, message),
        )
        self._meet('onopen', client)

    def _hook(
        self, name: str, client: Client, message: twspy.Message
    ) -> twspy.Message:
        self._meet(name, client)
        return message

    def onmessage(self, client: Client, message: twspy.Message) -> None:
        self._meet('onmessage', client)
        client.send(message)
        if message.payload == 'raise':
            raise ArithmeticError('as it was told')

    def onping(self, client: Client, payload: bytes) -> None:
        self._meet('onping', client)

    def onpong(self, client: Client, payload: bytes) -> None:
        self._meet('onpong', client)

    def onsent(self, client: Client, message: twspy.Message) -> None:
        self._meet('onsent', client)

    def onclose(self, client: Client, message: twspy.CloseMessage) -> None:
        self._meet('onclose', client)

    def onerror(self, client: Client | None, error: Exception) -> None:
        self._meet('onerror', client)


HANDLERS = [
    'onhandshake',
    'onopen',
    'onmessage',
    'onping',
    'onpong',
    'onsent',
    'onclose',
    'onerror',
    'recv hook',
    'send hook',
]


def close(server: Tampering, client: Client) -> None:
    client.close(1000, 'enough', timeout=0)


def close_socket(server: Tampering, client: Client) -> None:
    client.sock.close()


def close_everybody(server: Tampering, client: Client) -> None:
    for other in server.clients:
        with contextlib.suppress(Exception):
            other.close(timeout=0)


def send_and_fail(server: Tampering, client: Client) -> None:
    client.send('one more')
    raise ZeroDivisionError('as it was told')


def begin_anew(server: Tampering, client: Client) -> None:
    client.__init__(client.sock)  # type: ignore


def drop_attributes(server: Tampering, client: Client) -> None:
    vars(client).clear()
    del client
    gc.collect()


def broadcast(server: Tampering, client: Client) -> None:
    client.close(timeout=0)
    server.broadcast('to all', slow='close')


def receive(server: Tampering, client: Client) -> None:
    client.close(timeout=0)
    client.recv(timeout=0)


def stop(server: Tampering, client: Client) -> None:
    server.stop()


ACTS = [
    close,
    close_socket,
    close_everybody,
    send_and_fail,
    begin_anew,
    drop_attributes,
    broadcast,
    receive,
    stop,
]


@pytest.mark.parametrize('act', ACTS, ids=lambda act: act.__name__)
def test_each_act_in_each_handler(act: Callable[..., object]) -> None:
    for handler in HANDLERS:
        with Tampering(handler, act) as server:
            meddle(server)
            if act is not stop:
                with RawPeer.connect(server.address) as other:
                    other.echo()


def meddle(server: Tampering) -> None:
    """All that has a handler called, once it is armed."""
    server.armed = True
    with RawPeer.open(server.address) as peer:
        peer.send(request())
        with contextlib.suppress(EOFError, OSError):
            peer.read_head()
            peer.send_frame(PING, b'now')
            peer.send_frame(PONG, b'then')
            peer.send_frame(TEXT, b'raise')
            peer.send_frame(CLOSE, close_payload(1000))
            while True:
                peer.read_more()
    assert server.done.wait(SOON), f'{server.handler} was not called'


def test_clients_come_and_go_while_it_broadcasts() -> None:
    """Some vanish, some close, some are closed, and some read nothing."""

    class Server(twspy.Server):
        def onmessage(self, client: Client, message: twspy.Message) -> None:
            if message.payload == 'close me':
                client.close(timeout=0)
            elif message.payload == 'abort me':
                client.sock.close()
            elif message.payload == 'all':
                self.broadcast('again', slow='close')

        def onclose(self, client: Client) -> None:
            self.broadcast('one less')

    server = Server(
        ('127.0.0.1', 0),
        loglevel='CRITICAL',
        close_timeout=0.1,
        max_queue=9000,
    )
    over = threading.Event()

    def shout() -> int:
        count = 0
        while not over.is_set():
            server.broadcast('x' * 300)
            for client in server.clients:
                with contextlib.suppress(Exception):
                    client.send('y', timeout=0)
            count += 1
            time.sleep(0.0005)
        return count

    def come_and_go(kind: int) -> int:
        count = 0
        while not over.is_set() or count < 4:
            peer = RawPeer.connect(server.address)
            text = [b'close me', b'abort me', b'all', b'nothing'][kind]
            peer.send_frame(TEXT, text)
            if kind == 3:
                peer.reset()
            else:
                with contextlib.suppress(EOFError, OSError):
                    peer.read_more()
                peer.close()
            count += 1
        return count

    with server:
        joins = [in_thread(shout) for _ in range(2)]
        joins += [
            in_thread(lambda kind=kind: come_and_go(kind)) for kind in range(4)
        ]
        time.sleep(0.7)
        over.set()
        for join in joins:
            assert isinstance(join(), int)


# --- blocking connections ---


class Fickle(Client):
    """Does something in one of its handlers."""

    handler = ''
    act: Callable[[Fickle], object]

    def onopen(self) -> None:
        self._meet('onopen')

    def onmessage(self, message: twspy.Message) -> None:
        self._meet('onmessage')
        raise ArithmeticError('as it was told')

    def onping(self, payload: bytes) -> None:
        self._meet('onping')

    def onpong(self, payload: bytes) -> None:
        self._meet('onpong')

    def onclose(self, message: twspy.CloseMessage) -> None:
        self._meet('onclose')

    def onerror(self, error: Exception) -> None:
        self._meet('onerror')

    def _meet(self, handler: str) -> None:
        if handler == self.handler:
            self.handler = ''
            known = Exception if handler == 'onerror' else ()
            with contextlib.suppress(known):
                type(self).act(self)


def own_close(connection: Fickle) -> None:
    connection.close(timeout=0)


def own_socket(connection: Fickle) -> None:
    connection.sock.close()


def own_detach(connection: Fickle) -> None:
    socket.close(connection.sock.detach())


def own_receive(connection: Fickle) -> None:
    connection.recv(timeout=0)


def own_loop(connection: Fickle) -> None:
    connection.receive_forever()


def own_init(connection: Fickle) -> None:
    connection.__init__(connection.sock)  # type: ignore


def own_attributes(connection: Fickle) -> None:
    vars(connection).clear()
    gc.collect()


OWN_ACTS = [
    own_close,
    own_socket,
    own_detach,
    own_receive,
    own_loop,
    own_init,
    own_attributes,
]


@pytest.mark.parametrize('make', [client_end, server_end])
@pytest.mark.parametrize('act', OWN_ACTS, ids=lambda act: act.__name__)
def test_each_act_in_each_handler_of_a_connection(
    act: Callable[..., object], make: Callable[..., Any]
) -> None:
    class Made(Fickle):
        pass

    Made.act = act  # type: ignore[assignment]
    masked = make is server_end
    for handler in HANDLERS[1:8]:
        sock, peer = make(close_timeout=0)
        with peer:
            connection = Made(sock)
            connection.handler = handler
            peer.send_frame(PING, b'now', mask=masked)
            peer.send_frame(PONG, b'then', mask=masked)
            peer.send_frame(TEXT, b'raise', mask=masked)
            peer.send_frame(CLOSE, close_payload(1000), mask=masked)
            peer.sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(Exception):
                connection.receive_forever()
            assert connection.handler in ('', 'onsent')
            sock.close()


def test_dropped_in_its_own_hook() -> None:
    """The last reference to a connection goes while it receives."""
    sock, peer = client_end()
    box: list[Client] = []

    def drop(message: twspy.Message) -> twspy.Message:
        box.clear()
        gc.collect()
        return message

    with sock, peer:
        box.append(twspy.Connection(sock))
        box[0].add_hook(recv=drop)
        peer.send_frame(TEXT, b'text', mask=False)
        assert box[0].recv().payload == 'text'
        assert box == []


class Vanishing(twspy.Extension):
    """Lets its connection be closed while it looks at a frame."""

    name = 'x-vanishing'
    sock: Any = None

    def onrecv(self, frame: twspy.Frame) -> twspy.Frame:
        if Vanishing.sock is not None:
            Vanishing.sock.close()
            Vanishing.sock = None
            gc.collect()
        return frame


@pytest.mark.parametrize('way', ['server', 'blocking'])
def test_closed_in_an_extension(way: str) -> None:
    fields = {'Sec_WebSocket_Extensions': Vanishing.name}
    if way == 'server':
        with Tampering('', close, extensions=[Vanishing]) as server:
            with RawPeer.connect(server.address, **fields) as peer:
                peer.echo()
                (client,) = server.clients
                Vanishing.sock = client.sock
                peer.send_frame(TEXT, b'text')
                with contextlib.suppress(EOFError, OSError):
                    while True:
                        peer.read_more()
            with RawPeer.connect(server.address, **fields) as peer:
                peer.echo()
        return
    one, two = tcp_pair()
    sock = twspy.websocket(one, extensions=[Vanishing])
    sock.handshake(server=True, initial=request(**fields))
    with RawPeer(two) as peer:
        Vanishing.sock = sock
        peer.send_frame(TEXT, b'text')
        with contextlib.suppress(twspy.WebSocketError, OSError):
            sock.recv()
        with pytest.raises(OSError):
            sock.recv()


# --- handshakes that break off ---


@pytest.fixture(scope='module')
def echoing() -> Iterator[Tampering]:
    with Tampering('', close) as server:
        yield server


@pytest.mark.parametrize('how', ['reset', 'close'])
def test_client_vanishes_at_each_byte(echoing: Tampering, how: str) -> None:
    sent = request(X='y')
    for size in range(len(sent) + 1):
        peer = RawPeer.open(echoing.address)
        peer.send(sent[:size])
        peer.reset() if how == 'reset' else peer.close()
    with RawPeer.connect(echoing.address) as other:
        other.echo()


def test_client_of_a_listener_vanishes_at_each_byte() -> None:
    sent = request(X='y')
    listener = twspy.websocket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(300)
    with listener:
        for size in range(len(sent)):
            peer = RawPeer.open(listener.getsockname())
            peer.send(sent[:size])
            peer.reset() if size % 2 else peer.close()
        with RawPeer.open(listener.getsockname()) as peer:
            peer.send(sent)
            listener.settimeout(SOON)
            with listener.accept():
                assert peer.read_head()[0] == 101


@pytest.mark.parametrize('how', ['reset', 'close'])
def test_server_vanishes_at_each_byte(how: str) -> None:
    size = 0
    while True:
        one, two = tcp_pair()
        sock = twspy.websocket(one)
        sock.setblocking(False)
        with sock, RawPeer(two) as peer:
            with pytest.raises(BlockingIOError):
                sock.handshake(host='localhost')
            _, head = read_request(peer)
            sent = answer(head)
            peer.send(sent[:size])
            peer.reset() if how == 'reset' else peer.close()
            sock.settimeout(SOON)
            if size == len(sent):
                with contextlib.suppress(ConnectionResetError):
                    sock.handshake(host='localhost')
                return
            with pytest.raises(OSError):  # HandshakeError is one
                sock.handshake(host='localhost')
        size += 1
