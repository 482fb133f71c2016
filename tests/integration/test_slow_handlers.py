"""Handlers that take their time: nobody else waits for them.

Times here are generous, as machines that run tests are busy. What counts is
that they are far below what the slow handlers take; bench/slow_handlers.py
measures how far.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
import pytest
from programs import run_python
from rawends import in_thread
from rawpeer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
    pack,
    request,
)
from servers import SOON, EchoServer

import twspy

QUICK = 1.0  # what an echo may take, with slow handlers beside it
LONG = 2.0  # what a slow handler takes

Work = Callable[[twspy.Connection], object]


def sleep_long(client: twspy.Connection) -> None:
    time.sleep(LONG)


class BusyServer(EchoServer):
    """Echoes. For a message 'slow' it does its work first.

    begun, ended: how often the work was begun, and left again
    texts: the text messages that came to onmessage, of each client
    overlaps: handlers that were called while one of that client was running
    threads: those that handlers ran on
    closes: calls of onclose, of each client
    opened, endings: the client of each peer, and what onclose was told of
    it, by the peer's address
    """

    def __init__(self, work: Work = sleep_long, **options: Any) -> None:
        super().__init__(**options)
        self.work = work
        self.lock = threading.Lock()
        self.busy: set[twspy.Connection] = set()
        self.begun = 0
        self.ended = 0
        self.texts: dict[twspy.Connection, list[str]] = {}
        self.overlaps = 0
        self.threads: set[threading.Thread] = set()
        self.closes: Counter[twspy.Connection] = Counter()
        self.opened: dict[Any, twspy.Connection] = {}
        self.endings: dict[Any, Any] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @contextmanager
    def handling(self, client: twspy.Connection) -> Iterator[None]:
        with self.lock:
            self.threads.add(threading.current_thread())
            self.overlaps += client in self.busy
            self.busy.add(client)
        try:
            yield
        finally:
            with self.lock:
                self.busy.discard(client)

    def onopen(self, client: twspy.Connection) -> None:
        with self.handling(client):
            self.opened[client.remote_address] = client

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        with self.handling(client):
            if isinstance(message, twspy.TextMessage):
                with self.lock:
                    texts = self.texts.setdefault(client, [])
                texts.append(message.payload)
            if message.payload == 'slow':
                with self.lock:
                    self.begun += 1
                try:
                    self.work(client)
                finally:
                    with self.lock:
                        self.ended += 1
            if client.state == 'open':
                client.send(message)

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        with self.handling(client):
            with self.lock:
                self.closes[client] += 1
            self.endings[client.remote_address] = message

    def client_of(self, peer: RawPeer) -> twspy.Connection:
        """The client at the other end of a peer, once it is open."""
        wait_until(lambda: peer.address in self.opened)
        return self.opened[peer.address]

    def ending_of(self, peer: RawPeer) -> Any:
        """What onclose was told of a peer, once it was called."""
        wait_until(lambda: peer.address in self.endings)
        return self.endings[peer.address]


@contextmanager
def connected(server: twspy.Server, count: int) -> Iterator[list[RawPeer]]:
    """So many peers, for a while."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(RawPeer.connect(server.address))
            for _ in range(count)
        ]


def send_texts(peer: RawPeer, *texts: str) -> None:
    """Send messages, all in one segment where they fit."""
    peer.send(b''.join(pack(TEXT, text.encode()) for text in texts))


def read_texts(peer: RawPeer, count: int) -> list[str]:
    return [peer.read_frame().payload.decode() for _ in range(count)]


def wait_until(
    condition: Callable[[], object], seconds: float = 2 * SOON
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it has not come to that'
        time.sleep(0.01)


def wait_until_still(value: Callable[[], int]) -> int:
    """The value, once it has not changed for half a second."""
    last, since = value(), time.monotonic()
    end = since + SOON
    while time.monotonic() - since < 0.5:
        time.sleep(0.02)
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() < end, 'it does not come to rest'
    return last


def worst_echo(peers: list[RawPeer], going_on: Callable[[], bool]) -> float:
    """The longest time an echo took while something was going on."""
    worst = 0.0
    end = time.monotonic() + 2 * SOON
    while True:
        for peer in peers:
            begin = time.monotonic()
            peer.echo()
            worst = max(worst, time.monotonic() - begin)
        if not going_on():
            return worst
        assert time.monotonic() < end, 'it goes on and on'
        time.sleep(0.005)


def check_nobody_waits(peers: list[RawPeer], seconds: float = 0.5) -> None:
    end = time.monotonic() + seconds
    assert worst_echo(peers, lambda: time.monotonic() < end) < QUICK


def count_threads() -> int:
    """The threads of this process, as the system counts them."""
    return int(psutil.Process().num_threads())


# Handlers that sleep or compute ---------------------------------------------


def test_sleeping_handlers_hold_nobody_up() -> None:
    before = count_threads()
    with (
        BusyServer() as server,
        connected(server, 30) as sleepers,
        connected(server, 20) as others,
    ):
        for peer in sleepers:
            send_texts(peer, 'slow', '1', '2', '3')
        wait_until(lambda: server.begun > 0)
        worst = worst_echo(others, lambda: server.ended < 30)
        assert worst < QUICK
        # The order of each client is kept, whatever thread it is on.
        for peer in sleepers:
            assert read_texts(peer, 4) == ['slow', '1', '2', '3']
        assert server.overlaps == 0
        # Threads that have nothing to do go away.
        wait_until(lambda: count_threads() - before <= 8, 30)
        for peer in sleepers + others:
            peer.echo()


def test_sleeping_handlers_sleep_side_by_side() -> None:
    with BusyServer() as server, connected(server, 10) as sleepers:
        begin = time.monotonic()
        for peer in sleepers:
            send_texts(peer, 'slow')
        for peer in sleepers:
            assert read_texts(peer, 1) == ['slow']
        assert time.monotonic() - begin < 2 * LONG


def test_clients_go_on_one_by_one_as_their_handlers_return() -> None:
    """Handlers that end at different times: each client only waits for its
    own, and comes again and again."""
    turns = 3

    def nap(client: twspy.Connection) -> None:
        time.sleep(0.02 + (client.remote_address[1] % 10) / 50)

    with (
        BusyServer(nap) as server,
        connected(server, 20) as nappers,
        connected(server, 5) as others,
    ):
        texts = [w for n in range(turns) for w in ('slow', f'{n}')]
        for peer in nappers:
            send_texts(peer, *texts)
        worst = worst_echo(others, lambda: server.ended < 20 * turns)
        assert worst < QUICK
        for peer in nappers:
            assert read_texts(peer, 2 * turns) == texts
        assert server.overlaps == 0


def test_handler_that_computes_holds_nobody_up() -> None:
    def spin(client: twspy.Connection) -> None:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            pass

    with (
        BusyServer(spin) as server,
        connected(server, 1) as (spinner,),
        connected(server, 20) as others,
    ):
        send_texts(spinner, 'slow', 'next')
        wait_until(lambda: server.begun)
        assert worst_echo(others, lambda: server.ended < 1) < QUICK
        assert read_texts(spinner, 2) == ['slow', 'next']


def test_newcomers_are_served_beside_slow_handlers() -> None:
    with BusyServer() as server, connected(server, 10) as sleepers:
        for peer in sleepers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 10)
        begin = time.monotonic()
        with RawPeer.connect(server.address) as newcomer:
            newcomer.echo()
            assert time.monotonic() - begin < QUICK
            assert server.ended == 0


def test_what_a_slow_handler_sends_leaves_at_once() -> None:
    def say(client: twspy.Connection) -> None:
        client.send('before')
        time.sleep(LONG / 2)
        client.send('between')
        time.sleep(LONG / 2)

    with BusyServer(say) as server, connected(server, 1) as (peer,):
        begin = time.monotonic()
        send_texts(peer, 'slow')
        assert read_texts(peer, 1) == ['before']
        assert time.monotonic() - begin < QUICK
        assert read_texts(peer, 1) == ['between']
        assert server.ended == 0
        assert read_texts(peer, 1) == ['slow']


def test_others_may_send_to_a_client_in_a_slow_handler() -> None:
    with BusyServer() as server, connected(server, 1) as (peer,):
        client = server.client_of(peer)
        send_texts(peer, 'slow')
        wait_until(lambda: server.begun)
        client.send('from elsewhere')
        assert server.broadcast('to all') == 1
        assert read_texts(peer, 2) == ['from elsewhere', 'to all']
        assert server.ended == 0
        assert read_texts(peer, 1) == ['slow']


def test_slow_handler_that_raises_reaches_onerror() -> None:
    def fail(client: twspy.Connection) -> None:
        time.sleep(LONG / 4)
        raise LookupError(client)

    with BusyServer(fail) as server, connected(server, 5) as peers:
        for peer in peers:
            send_texts(peer, 'slow', 'next')
        errors = [server.wait_for('error') for _ in peers]
        assert all(e.args == (client,) for client, e in errors)
        assert {type(e) for _, e in errors} == {LookupError}
        assert len({client for client, _ in errors}) == 5
        for peer in peers:
            assert read_texts(peer, 1) == ['next']
            peer.echo()


def test_peer_that_leaves_while_its_handler_sleeps() -> None:
    with BusyServer() as server, connected(server, 1) as others:
        one, two, three = (RawPeer.connect(server.address) for _ in range(3))
        for peer in one, two, three:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 3)
        one.close()
        two.reset()
        three.send_frame(CLOSE, close_payload(3000))
        check_nobody_waits(others)
        assert server.ended == 0
        assert not server.closes  # not beside another handler of the client
        for peer, codes in (one, {1006}), (two, {1006}), (three, {3000}):
            assert server.ending_of(peer).code in codes
        assert set(server.closes.values()) == {1}
        assert server.overlaps == 0
        three.close()


def test_threads_are_threads_of_python_with_telling_names() -> None:
    with BusyServer() as server, connected(server, 5) as peers:
        for peer in peers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 5)
        alive = threading.enumerate()
        assert server.ended == 0
        assert server.threads <= set(alive)
        assert {t for t in server.threads if t.daemon} == server.threads
        assert 'Dummy' not in ''.join(type(t).__name__ for t in alive)
        names = [thread.name for thread in server.threads]
        assert all('twspy' in name for name in names), names
        assert len(set(names)) == len(names)


def test_limit_of_threads(caplog: pytest.LogCaptureFixture) -> None:
    def nap(client: twspy.Connection) -> None:
        time.sleep(LONG / 4)

    before = count_threads()
    threads: list[int] = []
    running: list[int] = []

    def look() -> bool:
        threads.append(count_threads() - before)
        with server.lock:
            running.append(server.begun - server.ended)
        return server.ended == 20

    with (
        caplog.at_level(logging.WARNING, 'twspy'),
        BusyServer(nap, max_threads=4) as server,
        connected(server, 10) as peers,
    ):
        for peer in peers:
            send_texts(peer, 'slow', 'slow', 'next')
        wait_until(look)
        for peer in peers:
            assert read_texts(peer, 3) == ['slow', 'slow', 'next']
        assert server.overlaps == 0
    assert 2 <= max(running) <= 4
    assert max(threads) <= 4 + 1  # one more watches the handlers
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, warnings
    assert 'max_threads' in warnings[0].getMessage()


# Every handler may be slow --------------------------------------------------


@pytest.mark.parametrize(
    'handler', ['onopen', 'onping', 'onpong', 'onclose', 'onrequest']
)
def test_no_slow_handler_holds_others_up(handler: str) -> None:
    begun: list[object] = []
    ended: list[object] = []

    def slow(*args: object) -> None:
        begun.append(args)
        time.sleep(LONG)
        ended.append(args)

    asking = {
        'onopen': request() + pack(TEXT, b'hello'),
        'onping': request() + pack(PING, b'p') + pack(TEXT, b'hello'),
        'onpong': request() + pack(PONG, b'p') + pack(TEXT, b'hello'),
        'onclose': request() + pack(CLOSE, close_payload(1000)),
        'onrequest': b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    }[handler]
    with (
        EchoServer() as server,
        connected(server, 20) as others,
        ExitStack() as stack,
    ):
        for peer in others:
            peer.echo()  # their onopen is over
        setattr(server, handler, slow)
        peers = [
            stack.enter_context(RawPeer.open(server.address))
            for _ in range(10)
        ]
        for peer in peers:
            peer.send(asking)
        wait_until(lambda: len(begun) == 10)
        delattr(server, handler)
        worst = worst_echo(others, lambda: len(ended) < 10)
        assert worst < QUICK
        for peer in peers:
            if handler == 'onrequest':
                assert peer.read_answer()[0] == 426
                continue
            assert peer.read_head()[0] == 101
            if handler == 'onping':
                assert peer.read_frame()[:2] == (PONG, b'p')
            if handler == 'onclose':
                assert peer.read_frame().close_code == 1000
            else:
                assert peer.read_frame()[:2] == (TEXT, b'hello')


# recv() inside a handler ----------------------------------------------------


def test_each_waiting_recv_gets_its_own_messages() -> None:
    def gather(client: twspy.Connection) -> None:
        client.send(','.join(client.recv().payload for _ in range(3)))

    with (
        BusyServer(gather) as server,
        connected(server, 50) as peers,
        connected(server, 20) as others,
    ):
        for peer in peers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 50)
        check_nobody_waits(others)
        for letter in 'ab':
            for number, peer in enumerate(peers):
                send_texts(peer, f'{letter}{number}')
        check_nobody_waits(others)
        assert server.ended == 0
        # What follows the last one goes to onmessage.
        for number, peer in enumerate(peers):
            send_texts(peer, f'c{number}', f'd{number}')
        for n, peer in enumerate(peers):
            expected = [f'a{n},b{n},c{n}', 'slow', f'd{n}']
            assert read_texts(peer, 3) == expected
        letters = Counter(
            t[0] for texts in server.texts.values() for t in texts
        )
        assert set(letters) == {'s', 'd', 'a'}  # "are you there?"
        heard = [texts for texts in server.texts.values() if 'slow' in texts]
        assert sorted(heard) == sorted(['slow', f'd{n}'] for n in range(50))
        assert server.overlaps == 0


def test_recv_finds_what_came_with_the_message_before() -> None:
    def gather(client: twspy.Connection) -> None:
        client.send(client.recv().payload + client.recv().payload)

    with BusyServer(gather) as server, connected(server, 10) as peers:
        for peer in peers:
            send_texts(peer, 'slow', 'a', 'b', 'c', 'slow', 'd')
        for peer in peers:
            assert read_texts(peer, 3) == ['ab', 'slow', 'c']
            for byte in pack(TEXT, b'e') + pack(TEXT, b'f'):
                peer.send(bytes([byte]))
            assert read_texts(peer, 3) == ['de', 'slow', 'f']


def test_recv_after_a_sleep_gets_what_came_meanwhile() -> None:
    def gather(client: twspy.Connection) -> None:
        time.sleep(LONG / 4)
        client.send(client.recv().payload + client.recv().payload)

    with BusyServer(gather) as server, connected(server, 10) as peers:
        for peer in peers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 10)
        for peer in peers:
            send_texts(peer, 'a', 'b', 'c')
        for peer in peers:
            assert read_texts(peer, 3) == ['ab', 'slow', 'c']


def test_recv_with_a_timeout() -> None:
    def wait(client: twspy.Connection) -> None:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            client.recv(timeout=LONG)
        client.send(f'{time.monotonic() - begin}')

    with (
        BusyServer(wait) as server,
        connected(server, 20) as peers,
        connected(server, 20) as others,
    ):
        message = pack(TEXT, b'whole')
        for peer in peers:
            peer.send(pack(TEXT, b'slow') + message[:4])
        wait_until(lambda: server.begun == 20)
        assert worst_echo(others, lambda: server.ended < 20) < QUICK
        for peer in peers:
            taken, text = read_texts(peer, 2)
            assert LONG - 0.1 < float(taken) < LONG + 5
            assert text == 'slow'
            # Half a message is not lost.
            peer.send(message[4:])
            assert read_texts(peer, 1) == ['whole']
            peer.echo()


def test_pings_are_answered_while_a_handler_waits() -> None:
    def gather(client: twspy.Connection) -> None:
        client.send(client.recv().payload)

    with BusyServer(gather) as server, connected(server, 1) as (peer,):
        send_texts(peer, 'slow')
        wait_until(lambda: server.begun)
        peer.send_frame(PING, b'?')
        assert peer.read_frame()[:2] == (PONG, b'?')
        send_texts(peer, 'x')
        assert read_texts(peer, 2) == ['x', 'slow']


def test_recv_in_onopen() -> None:
    class Server(BusyServer):
        def onopen(self, client: Any) -> None:
            super().onopen(client)
            client.name = client.recv().payload

        def onmessage(self, client: Any, message: twspy.Message) -> None:
            client.send(f'{client.name}: {message.payload}')

    with Server() as server, connected(server, 20) as peers:
        # The last ones speak first: nobody waits for who is silent.
        for number, peer in reversed(list(enumerate(peers))):
            send_texts(peer, f'p{number}', 'one', 'two')
            expected = [f'p{number}: one', f'p{number}: two']
            assert read_texts(peer, 2) == expected
        assert server.overlaps == 0


def test_peer_that_leaves_while_recv_waits() -> None:
    def wait(client: twspy.Connection) -> None:
        client.recv()

    with BusyServer(wait) as server, connected(server, 2) as (one, two):
        for peer in one, two:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 2)
        one.close()
        client, error = server.wait_for('error')
        assert client.remote_address == one.address
        assert isinstance(error, twspy.SocketClosed)
        assert error.code == 1006
        two.send_frame(CLOSE, close_payload(3001, 'enough'))
        client, error = server.wait_for('error')
        assert client.remote_address == two.address
        assert isinstance(error, twspy.SocketClosed)
        assert (error.code, error.reason) == (3001, 'enough')
        wait_until(lambda: len(server.closes) == 2)
        assert set(server.closes.values()) == {1}


def test_iteration_in_a_handler() -> None:
    def count(client: twspy.Connection) -> None:
        number = 0
        for number, message in enumerate(client, 1):
            client.send(f'{number}{message.payload}')
        with server.lock:
            totals.append(number)

    totals: list[int] = []
    with (
        BusyServer(count) as server,
        connected(server, 10) as peers,
        connected(server, 5) as others,
    ):
        for peer in peers:
            send_texts(peer, 'slow', 'a')
            assert read_texts(peer, 1) == ['1a']
        check_nobody_waits(others)
        for peer in peers:
            send_texts(peer, 'b', 'c')
            assert read_texts(peer, 2) == ['2b', '3c']
        # It ends in peace with 1000, and with SocketClosed with others.
        for number, peer in enumerate(peers):
            peer.send_frame(CLOSE, close_payload(3000 if number < 3 else 1000))
            peer.read_frame()
        errors = [server.wait_for('error')[1] for _ in range(3)]
        assert {getattr(e, 'code', e) for e in errors} == {3000}
        wait_until(lambda: len(server.closes) == 10)
        assert set(server.closes.values()) == {1}
        assert totals == [3] * 7
        assert server.overlaps == 0


# close() --------------------------------------------------------------------


def test_close_in_a_handler_waits_for_the_answer() -> None:
    states: list[str] = []

    def close(client: twspy.Connection) -> None:
        client.close(4000, 'enough')
        states.append(client.state)

    with (
        BusyServer(close, close_timeout=SOON) as server,
        connected(server, 10) as peers,
        connected(server, 20) as others,
    ):
        for peer in peers:
            send_texts(peer, 'slow', 'discarded')
            frame = peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (4000, 'enough')
        check_nobody_waits(others)
        assert server.ended == 0
        for peer in peers:
            peer.send(
                pack(TEXT, b'discarded') + pack(CLOSE, close_payload(4000))
            )
        for peer in peers:
            assert server.ending_of(peer).code == 4000
            peer.expect_end()
        assert states == ['closed'] * 10
        heard = [texts for texts in server.texts.values() if 'slow' in texts]
        assert heard == [['slow']] * 10
        assert set(server.closes.values()) == {1}
        assert server.overlaps == 0


def test_close_in_another_thread_waits_for_the_answer() -> None:
    with (
        BusyServer(close_timeout=SOON) as server,
        connected(server, 1) as (peer,),
    ):
        client = server.client_of(peer)
        with connected(server, 5) as others:
            join = in_thread(lambda: client.close(4001))
            assert peer.read_frame().close_code == 4001
            check_nobody_waits(others)
            assert not server.closes
            peer.send_frame(CLOSE, close_payload(4001))
            assert join() is None
            assert client.state == 'closed'
            assert server.ending_of(peer).code == 4001


@pytest.mark.parametrize(
    ('option', 'argument'), [(0.5, None), (SOON * 10, 0.5)]
)
def test_close_gives_up_on_a_peer_that_never_answers(
    option: float, argument: float | None
) -> None:
    taken: list[float] = []

    def close(client: twspy.Connection) -> None:
        begin = time.monotonic()
        client.close(timeout=argument)
        taken.append(time.monotonic() - begin)

    with (
        BusyServer(close, close_timeout=option) as server,
        connected(server, 2) as (one, two),
        connected(server, 5) as others,
    ):
        send_texts(one, 'slow')
        client = server.client_of(two)
        join = in_thread(lambda: close(client))
        check_nobody_waits(others)
        assert join() is None
        for peer in one, two:
            assert server.ending_of(peer).code == 1006
        wait_until(lambda: len(taken) == 2)
        assert all(0.4 < seconds < 5 for seconds in taken), taken


def test_close_by_others_while_a_handler_sleeps() -> None:
    with (
        BusyServer(close_timeout=SOON) as server,
        connected(server, 1) as (peer,),
    ):
        client = server.client_of(peer)
        send_texts(peer, 'slow')
        wait_until(lambda: server.begun)
        join = in_thread(lambda: client.close(4002))
        assert peer.read_frame().close_code == 4002
        assert server.ended == 0
        peer.send_frame(CLOSE, close_payload(4002))
        assert join() is None
        assert server.ending_of(peer).code == 4002
        assert server.ended == 1
        assert (server.closes.total(), server.overlaps) == (1, 0)


# send() above the high-water mark -------------------------------------------

BLOCK = 100_000  # bytes in a message
BLOCKS = 300  # more than the kernel takes for a peer that does not read
MARK = 200_000  # bytes: the high-water mark


def block(number: int) -> bytes:
    return number.to_bytes(4, 'big') * (BLOCK // 4)


def expect_blocks(peer: RawPeer, count: int) -> None:
    for number in range(count):
        frame = peer.read_frame()
        assert frame.opcode == BINARY
        assert frame.payload == block(number), number


def test_send_waits_while_a_peer_does_not_read() -> None:
    sent: Counter[twspy.Connection] = Counter()

    def flood(client: twspy.Connection) -> None:
        for number in range(BLOCKS):
            client.send(block(number))
            sent[client] += 1

    with (
        BusyServer(flood, max_queue=MARK) as server,
        connected(server, 3) as peers,
        connected(server, 20) as others,
    ):
        for peer in peers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 3)
        wait_until_still(sent.total)
        assert len(sent) == 3
        assert all(0 < count < BLOCKS for count in sent.values())
        for client in sent:
            # One message of any size is taken below the mark.
            assert 0 < client.queued <= MARK + BLOCK + 100
        check_nobody_waits(others)
        assert server.ended == 0
        for peer in peers:
            expect_blocks(peer, BLOCKS)
            assert read_texts(peer, 1) == ['slow']
        assert server.ended == 3
        wait_until(lambda: all(client.queued == 0 for client in sent))


def test_send_in_another_thread_waits_as_well() -> None:
    sent = 0
    with (
        BusyServer(max_queue=MARK) as server,
        connected(server, 1) as (peer,),
    ):
        client = server.client_of(peer)

        def flood() -> None:
            nonlocal sent
            for number in range(BLOCKS):
                client.send(block(number))
                sent += 1

        join = in_thread(flood)
        wait_until_still(lambda: sent)
        assert 0 < sent < BLOCKS
        with connected(server, 5) as others:
            check_nobody_waits(others)
        assert client.queued <= MARK + BLOCK + 100
        expect_blocks(peer, BLOCKS)
        assert join() is None


@pytest.mark.parametrize('timeout', [0, 0.3])
def test_send_with_a_timeout(timeout: float) -> None:
    outcome: list[Any] = []

    def flood(client: twspy.Connection) -> None:
        number = 0
        try:
            while number < BLOCKS:
                begin = time.monotonic()
                client.send(block(number), timeout=timeout)
                number += 1
        except TimeoutError as error:
            outcome.append((error, number, time.monotonic() - begin))

    with (
        BusyServer(flood, max_queue=MARK) as server,
        connected(server, 1) as (peer,),
        connected(server, 5) as others,
    ):
        send_texts(peer, 'slow')
        check_nobody_waits(others)
        wait_until(lambda: outcome)
        ((_, number, seconds),) = outcome
        assert 0 < number < BLOCKS
        assert timeout - 0.05 <= seconds < timeout + 5
        # Nothing of the message was taken, and the client lives on.
        expect_blocks(peer, number)
        assert read_texts(peer, 1) == ['slow']
        peer.echo()


def test_send_that_never_gets_room_ends_the_client() -> None:
    outcome: list[Any] = []

    def flood(client: twspy.Connection) -> None:
        try:
            while True:
                begin = time.monotonic()
                client.send(block(0))
        except (TimeoutError, twspy.SocketClosed) as error:
            outcome.append((error, time.monotonic() - begin))

    with (
        BusyServer(flood, max_queue=MARK, send_timeout=0.5) as server,
        connected(server, 1) as (peer,),
        connected(server, 5) as others,
    ):
        send_texts(peer, 'slow')
        check_nobody_waits(others)
        ending = server.ending_of(peer)
        ((_, seconds),) = outcome
        assert 0.4 < seconds < 5
        assert ending.ended_by == 'limit'
        assert ending.unsent > 0
        assert ending.explanation
        (ended,) = server.closes
        assert ended not in server.clients
        with pytest.raises(twspy.SocketClosed):
            ended.send('more')
        check_nobody_waits(others, 0)


def test_messages_wait_while_a_handler_waits_in_send() -> None:
    def flood(client: twspy.Connection) -> None:
        for number in range(BLOCKS):
            client.send(block(number))

    with (
        BusyServer(flood, max_queue=MARK) as server,
        connected(server, 1) as (peer,),
    ):
        send_texts(peer, 'slow', 'a')
        wait_until(lambda: server.begun)
        time.sleep(0.5)
        send_texts(peer, 'b')
        expect_blocks(peer, BLOCKS)
        assert read_texts(peer, 3) == ['slow', 'a', 'b']
        assert server.overlaps == 0


def test_eight_threads_send_to_one_client() -> None:
    sizes = (0, 1, 100, 126, 5_000, 20_000, 65_536, 70_000)
    each = 200

    def flood(client: twspy.Connection) -> None:
        client.send(b'of its handler')

    with (
        BusyServer(flood, max_queue=MARK) as server,
        connected(server, 1) as (peer,),
    ):
        client = server.client_of(peer)
        together = threading.Barrier(8)

        def send(name: int) -> None:
            together.wait(SOON)
            for number in range(each):
                head = bytes([name, number])
                size = sizes[(number + name) % len(sizes)]
                client.send(head + bytes([number]) * size)

        joins = [
            in_thread(lambda name=name: send(name))  # type: ignore[misc]
            for name in range(8)
        ]
        for _ in range(10):
            send_texts(peer, 'slow')
        counts = [0] * 8
        texts = own = 0
        while (sum(counts), texts, own) != (8 * each, 10, 10):
            frame = peer.read_frame()
            assert frame.fin
            if frame.opcode == TEXT:
                assert frame.payload == b'slow'
                texts += 1
            elif frame.payload == b'of its handler':
                own += 1
            else:
                name, number = frame.payload[:2]
                assert number == counts[name]
                size = sizes[(number + name) % len(sizes)]
                assert frame.payload[2:] == bytes([number]) * size
                counts[name] += 1
        assert [join() for join in joins] == [None] * 8
        peer.echo()


# Stopping -------------------------------------------------------------------


def test_stop_while_handlers_sleep() -> None:
    late: list[object] = []

    def work(client: twspy.Connection) -> None:
        time.sleep(2 * LONG)
        with pytest.raises(twspy.SocketClosed):
            client.send('late')
        client.close()
        server.broadcast('late')
        late.append(client)

    server = BusyServer(work, max_join_time=0.5)
    with (
        server,
        connected(server, 5) as sleepers,
        connected(server, 5) as idle,
    ):
        for peer in sleepers:
            send_texts(peer, 'slow', 'never handled')
        wait_until(lambda: server.begun == 5)
        for peer in idle:
            peer.echo()
        begin = time.monotonic()
        server.stop()
        assert 0.3 < time.monotonic() - begin < 0.5 + 1 + 1
        assert server.ended == 0
        for peer in sleepers + idle:
            assert peer.read_frame().close_code == 1001 or peer in idle
        with pytest.raises(OSError):
            socket.create_connection(server.address, 1)
        wait_until(lambda: len(late) == 5)
        wait_until(lambda: len(server.closes) == 10)
        time.sleep(0.3)
        assert len(server.closes) == 10
        assert set(server.closes.values()) == {1}
        heard = {text for texts in server.texts.values() for text in texts}
        assert heard == {'slow', 'are you there?'}
        assert server.overlaps == 0
        wait_until(lambda: not any(t.is_alive() for t in server.threads))


def test_stop_wakes_handlers_that_wait() -> None:
    """In recv(), in send() and in close(): they end with SocketClosed, or in
    peace, and the stop does not take all of its time."""

    def work(client: twspy.Connection) -> None:
        number = client.remote_address[1]
        kind = kinds[number]
        if kind == 'recv':
            client.recv()
        elif kind == 'send':
            while True:
                client.send(block(0))
        else:
            client.close()

    kinds: dict[int, str] = {}
    server = BusyServer(
        work, max_join_time=1.0, max_queue=MARK, close_timeout=SOON
    )
    with server, connected(server, 6) as peers:
        for number, peer in enumerate(peers):
            kinds[peer.address[1]] = ('recv', 'send', 'close')[number % 3]
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 6)
        time.sleep(0.5)
        assert server.ended == 0
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 1 + 1 + 1
        wait_until(lambda: server.ended == 6)
        wait_until(lambda: len(server.closes) == 6)
        assert set(server.closes.values()) == {1}
        errors = [e[2] for e in list(server.events.queue) if e[0] == 'error']
        assert len(errors) == 4
        assert {type(error) for error in errors} == {twspy.SocketClosed}


def test_stop_in_a_slow_handler() -> None:
    def work(client: twspy.Connection) -> None:
        time.sleep(LONG / 4)
        server.stop(1012)

    server = BusyServer(work)
    with server, connected(server, 3) as peers:
        send_texts(peers[0], 'slow')
        for peer in peers:
            frame = peer.read_frame()
            while frame.opcode == TEXT:
                frame = peer.read_frame()
            assert frame.close_code == 1012
            peer.send_frame(CLOSE, frame.payload)
        wait_until(lambda: len(server.closes) == 3)
        assert set(server.closes.values()) == {1}


SCRIPT = """
import logging, time, twspy

class Server(twspy.Server):
    def onmessage(self, client, message):
        print('in', flush=True)
        time.sleep(60)

server = Server(('127.0.0.1', 0), max_join_time=0.5)
print('port', server.address[1])
server.run()
print('done', flush=True)
"""


def test_program_ends_while_its_handlers_sleep(tmp_path: Path) -> None:
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT, encoding='utf-8')
    with run_python(script, cwd=tmp_path) as program:
        port = int(program.wait_for(r'^port (\d+)$')[1])
        program.wait_for('listening')
        with ExitStack() as stack:
            for _ in range(5):
                peer = stack.enter_context(
                    RawPeer.connect(('127.0.0.1', port))
                )
                send_texts(peer, 'sleep')
            for _ in range(5):
                program.wait_for('^in$')
            begin = time.monotonic()
            program.send_signal(signal.SIGINT)
            program.wait_for('^done$')
            assert program.wait() == 0
            assert time.monotonic() - begin < SOON
        assert 'Traceback' not in program.text
        assert 'Fatal' not in program.text


@pytest.mark.parametrize('delay', [0, 0.01, 0.05, 0.2])
def test_broadcast_close_and_stop_at_the_same_time(delay: float) -> None:
    server = BusyServer(lambda client: time.sleep(0.05), max_join_time=1)
    together = threading.Barrier(7)

    def broadcast() -> None:
        together.wait(SOON)
        while server.clients:
            server.broadcast('x' * 1000)

    def close(some: list[twspy.Connection]) -> None:
        together.wait(SOON)
        for client in some:
            client.close(4000, timeout=0.05)

    def stop() -> None:
        together.wait(SOON)
        time.sleep(delay)
        server.stop()

    with server, connected(server, 16) as peers:
        clients = [server.client_of(peer) for peer in peers]
        for peer in peers[::2]:
            send_texts(peer, *['slow'] * 5)
        joins = [
            *(in_thread(broadcast) for _ in range(3)),
            in_thread(lambda: close(clients[::3])),
            in_thread(lambda: close(clients[1::3])),
            *(in_thread(stop) for _ in range(2)),
        ]
        assert [join() for join in joins] == [None] * 7
        wait_until(lambda: len(server.closes) == 16)
        time.sleep(0.1)
        assert set(server.closes.values()) == {1}
        assert len(server.closes) == 16
        assert server.overlaps == 0
        assert server.clients == []


def vanish_amid_slow_handlers() -> None:
    with (
        BusyServer(lambda client: time.sleep(0.1)) as server,
        connected(server, 20) as peers,
    ):
        for peer in peers:
            send_texts(peer, 'slow')
        wait_until(lambda: server.begun == 20)
        for peer in peers[::2]:
            peer.reset()
        wait_until(lambda: len(server.closes) == 10)


def test_descriptors_do_not_leak_with_slow_handlers() -> None:
    gc.collect()  # of the servers of other tests
    descriptors = len(os.listdir('/proc/self/fd'))
    vanish_amid_slow_handlers()
    gc.collect()  # a server keeps the loop's own descriptors
    wait_until(lambda: len(os.listdir('/proc/self/fd')) == descriptors)
