"""Peers that are silent, slow, many, or never close: each is gone in time, and
takes no thread, no descriptor and no other peer's time with it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from rawends import answer, client_end, in_thread, read_request, server_end
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    TEXT,
    RawPeer,
    close_payload,
    pack,
    request,
)
from rawservers import Asked, serving, welcome
from servers import SOON, EchoServer

import twspy

SHORT = 0.5


class Patient(EchoServer):
    """Gives peers all the time they want, but for what a test says."""

    def __init__(self, *limits: str) -> None:
        patience: dict[str, float | None] = {
            'open_timeout': 600.0,
            'close_timeout': 600.0,
            'ping_interval': None,
            'ping_timeout': None,
            'send_timeout': 600.0,
        }
        super().__init__(
            loglevel='CRITICAL',
            max_queue=10_000,
            max_join_time=0,
            **patience | dict.fromkeys(limits, SHORT),
        )

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        if message.payload == 'close me':
            client.close()
        elif message.payload == 'close all':
            self.broadcast(twspy.CloseMessage(1000))
        elif message.payload == 'flood me':
            while True:
                client.send('x' * 10_000)
        else:
            super().onmessage(client, message)


def dribble(peer: RawPeer, over: threading.Event) -> None:
    """A byte now and then, so that it is never silent for long."""
    byte = b'y'
    with contextlib.suppress(OSError):
        while not over.wait(SHORT / 6):
            peer.sock.send(byte)


def silent(server: EchoServer) -> RawPeer:
    return RawPeer.open(server.address)


def half_a_handshake(server: EchoServer) -> RawPeer:
    peer = silent(server)
    peer.send(request()[:70])
    return peer


def endless_handshake(server: EchoServer) -> RawPeer:
    peer = silent(server)
    peer.send(b'GET / HTTP/1.1\r\nX: ')
    return peer


def half_a_frame(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send(pack(TEXT, b'x' * 100)[:50])
    return peer


def endless_frame(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send(pack(BINARY, length=1 << 20))
    return peer


def half_a_message(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send_frame(TEXT, b'x', fin=False)
    return peer


def never_answers_a_ping(server: EchoServer) -> RawPeer:
    return RawPeer.connect(server.address)


def never_answers_a_close(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send_frame(TEXT, b'close me')
    return peer


def never_answers_the_close_of_all(server: EchoServer) -> RawPeer:
    """One that nobody waits for."""
    peer = RawPeer.connect(server.address)
    peer.send_frame(TEXT, b'close all')
    return peer


def never_ends_behind_its_close(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send_frame(CLOSE, close_payload(1000))
    return peer


def never_ends_behind_an_error(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send_frame(TEXT, b'x', rsv=7)
    return peer


def never_ends_behind_a_refusal(server: EchoServer) -> RawPeer:
    peer = silent(server)
    peer.send(b'nonsense\r\n\r\n')
    return peer


def never_reads(server: EchoServer) -> RawPeer:
    peer = RawPeer.connect(server.address)
    peer.send_frame(TEXT, b'flood me')
    return peer


# Who is ended by which limits, all others being off. Who is given up by the
# keepalive has the time of a closing handshake to notice it.
KEEPALIVE = 'ping_interval', 'ping_timeout', 'close_timeout'
WASTERS: dict[Callable[[Any], RawPeer], tuple[str, ...]] = {
    silent: ('open_timeout',),
    half_a_handshake: ('open_timeout',),
    endless_handshake: ('open_timeout',),
    half_a_frame: KEEPALIVE,
    endless_frame: KEEPALIVE,
    half_a_message: KEEPALIVE,
    never_answers_a_ping: KEEPALIVE,
    never_answers_a_close: ('close_timeout',),
    never_answers_the_close_of_all: ('close_timeout',),
    never_ends_behind_its_close: ('close_timeout',),
    never_ends_behind_an_error: ('close_timeout',),
    never_ends_behind_a_refusal: ('close_timeout',),
    never_reads: ('send_timeout',),
}
DRIBBLING = endless_handshake, endless_frame


def begin(make: Callable[[Any], RawPeer], of: Any) -> RawPeer:
    """Connect again where a busy machine was too slow for the time limits
    here."""
    while True:
        try:
            return make(of)
        except (EOFError, OSError):
            continue


def descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def test_who_wastes_time_is_gone_in_time() -> None:
    """All kinds at once, thrice each. None reads or closes by itself."""
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        servers = {
            make: stack.enter_context(Patient(*limits))
            for make, limits in WASTERS.items()
        }
        stack.callback(over.set)
        before = descriptors()
        peers = []
        joins = []
        began = time.monotonic()
        for make in [*WASTERS] * 3:
            peer = stack.enter_context(begin(make, servers[make]))
            peers.append((make.__name__, peer))
            if make in DRIBBLING:
                joins.append(in_thread(lambda p=peer: dribble(p, over)))
        while descriptors() > before + len(peers):
            # Those of the servers; ours stay open.
            assert time.monotonic() - began < SOON, sorted(
                name for name, peer in peers if is_open(peer)
            )
            for server in servers.values():
                with begin(RawPeer.open, server.address) as other:
                    other.send(b'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n')
                    assert other.read_head()[0] == 426  # nobody is held up
            time.sleep(0.05)  # the ends of these are to go as well
        over.set()
        for join in joins:
            join()


def is_open(peer: RawPeer) -> bool:
    """Whether the server still holds its end."""
    port = f':{peer.address[1]:04X} '
    with open('/proc/net/tcp') as file:
        return any(port in line and ' 01 ' in line for line in file)


def threads_of_this_process() -> int:
    return len(os.listdir('/proc/self/task'))


@pytest.mark.parametrize('max_threads', [2, 6])
def test_a_flood_takes_no_more_threads(max_threads: int) -> None:
    """200 clients, each with messages that take their time, and more of them
    while the first are looked at."""
    most = [0]
    count = [0]
    lock = threading.Lock()

    class Slow(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            time.sleep(0.02)
            with lock:
                count[0] += 1
                most[0] = max(most[0], threads_of_this_process())

    before = threads_of_this_process()
    with Slow(
        ('127.0.0.1', 0), loglevel='CRITICAL', max_threads=max_threads
    ) as server:
        peers = [RawPeer.connect(server.address) for _ in range(200)]
        for peer in peers:
            peer.send(pack(TEXT, b'x') * 50)
        deadline = time.monotonic() + SOON
        while count[0] < 30:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for peer in peers:
            peer.close()
    # One more watches the handlers, one drives while none is to be had.
    assert 1 < most[0] - before <= max_threads + 2


def test_quick_handlers_take_no_threads_at_all() -> None:
    with EchoServer() as server:
        before = threads_of_this_process()
        peers = [RawPeer.connect(server.address) for _ in range(100)]
        for peer in peers:
            peer.send(pack(TEXT, b'x') * 100)
        for peer in peers:
            peer.read_exactly(300)
        # A busy machine makes some of them look slow.
        assert threads_of_this_process() - before <= 16
        for peer in peers:
            peer.close()


def test_clients_beyond_the_limit_are_refused() -> None:
    with EchoServer(max_clients=3) as server:
        peers = [RawPeer.connect(server.address) for _ in range(3)]
        for _ in range(20):
            with RawPeer.open(server.address) as late:
                late.send(request())
                assert late.read_head()[0] == 503
        for peer in peers:
            peer.echo()
            peer.close()


def test_half_open_handshakes_of_an_address_are_bounded() -> None:
    with EchoServer(max_half_open=5) as server:
        peers = [RawPeer.open(server.address) for _ in range(30)]
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.send(b'GET')
        for peer in peers[:25]:
            with contextlib.suppress(ConnectionResetError):
                assert peer.sock.recv(1) == b''
            peer.close()
        peers[-1].send(request()[3:])
        assert peers[-1].read_head()[0] == 101
        for peer in peers[25:]:
            peer.close()


# --- what a server may do to a client ---


def say_nothing(peer: RawPeer, asked: Asked) -> None:
    pass


def begin_an_answer(peer: RawPeer, asked: Asked) -> None:
    peer.send(answer(asked.head)[:40])


def dribble_an_answer(peer: RawPeer, asked: Asked) -> None:
    peer.send(b'HTTP/1.1 101 Yes\r\nX: ')
    dribble(peer, threading.Event())


def dribble_interim_answers(peer: RawPeer, asked: Asked) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
            time.sleep(SHORT / 10)


def endless_body(peer: RawPeer, asked: Asked) -> None:
    peer.send(b'HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n')
    with contextlib.suppress(OSError):
        while True:
            peer.send(b'1000\r\n' + b'x' * 4096 + b'\r\n')


def endless_redirects(peer: RawPeer, asked: Asked) -> None:
    number = int(asked.target[1:] or 0) + 1
    peer.send(
        b'HTTP/1.1 302 Go\r\nContent-Length: 0\r\nLocation: /%d\r\n\r\n'
        % number
    )
    peer.sock.shutdown(socket.SHUT_WR)


def endless_challenges(peer: RawPeer, asked: Asked) -> None:
    peer.send(
        b'HTTP/1.1 401 No\r\nContent-Length: 0\r\n'
        b'WWW-Authenticate: Digest realm="r", nonce="%d", qop="auth", '
        b'stale=true\r\n\r\n' % time.monotonic_ns()
    )
    peer.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    'react',
    [
        say_nothing,
        begin_an_answer,
        dribble_an_answer,
        dribble_interim_answers,
        endless_body,
        endless_redirects,
        endless_challenges,
    ],
)
def test_no_server_holds_a_client(
    react: Callable[[RawPeer, Asked], object],
) -> None:
    with serving(react) as server:
        began = time.monotonic()
        with pytest.raises(OSError):
            twspy.connect(
                server.url, open_timeout=SHORT, auth=('user', 'word')
            )
        assert time.monotonic() - began < SOON
        assert len(server.requests) <= 11


@pytest.mark.parametrize('make', [client_end, server_end])
def test_a_close_that_is_not_answered(make: Callable[..., object]) -> None:
    """Nor does one that goes on talking for ever hold a close()."""
    sock, peer = make(close_timeout=SHORT)  # type: ignore[misc]
    with sock, peer:
        connection = twspy.Connection(sock)
        over = threading.Event()

        def talk() -> None:
            block = pack(BINARY, bytes(50_000), mask=make is server_end)
            with contextlib.suppress(OSError):
                while not over.is_set():
                    peer.send(block)

        join = in_thread(talk)
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < SOON
        over.set()
        with contextlib.suppress(OSError):  # as it may have noticed
            peer.sock.shutdown(socket.SHUT_RDWR)
        join()


def test_keepalive_ends_a_connection_of_a_silent_server() -> None:
    def react(peer: RawPeer, asked: Asked) -> None:
        welcome(peer, asked)
        peer.send(pack(TEXT, b'x', mask=False, fin=False))  # and no more

    with serving(react) as server:
        with twspy.connect(
            server.url,
            ping_interval=SHORT,
            ping_timeout=SHORT,
            close_timeout=0,
        ) as connection:
            with pytest.raises(twspy.SocketClosed) as caught:
                connection.recv(timeout=SOON)
            assert caught.value.ended_by == 'keepalive'


def test_wasters_do_what_they_say() -> None:
    """Each is no peer that would be ended anyway."""
    with EchoServer() as server:
        for make in (half_a_frame, half_a_message, never_answers_a_ping):
            with make(server) as peer:
                peer.sock.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    peer.read_more()
    one, two = socket.socketpair()
    with RawPeer(one) as sender, RawPeer(two) as reader:
        sender.send(request())
        assert read_request(reader)[0] == 'GET / HTTP/1.1'
        sender.send_frame(CONTINUATION, b'x')
        assert reader.read_frame().payload == b'x'
