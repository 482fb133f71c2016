"""Several loops in one process: they share the clients and all else."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import Program, run_python
from rawpeer import CLOSE, TEXT, RawPeer, close_payload, request
from servers import SOON

import twspy
from twspy import _binding
from twspy._runner import Runner


def loop_here() -> int:
    """The number of the loop that calls this handler."""
    found = re.search(r' loop (\d+) #', threading.current_thread().name)
    assert found is not None, threading.current_thread().name
    return int(found[1])


class LoopServer(twspy.Server):
    """Tells each client which loop serves it, and echoes.

    A message can be the name of something else to do, in `acts`; what that
    returns or raises is sent back.
    """

    def __init__(self, address: Any = ('127.0.0.1', 0), **options: Any):
        super().__init__(address, **options)
        self.acts: dict[str, Callable[[twspy.Connection], object]] = {}
        self.blocked = threading.Semaphore(0)  # how many came to block()
        self.go = threading.Event()
        self.closes: list[tuple[int, int]] = []

    def onopen(self, client: twspy.Connection) -> None:
        client.loop = loop_here()  # type: ignore[attr-defined]
        client.send(str(loop_here()))

    def onmessage(self, client: twspy.Connection, message: Any) -> None:
        assert loop_here() == client.loop  # type: ignore[attr-defined]
        act = self.acts.get(message.payload)
        if act is None:
            client.send(message)
            return
        try:
            answer = act(client)
        except Exception as error:
            answer = type(error).__name__
        client.send(str(answer))

    def onclose(self, client: twspy.Connection, message: Any) -> None:
        self.closes.append((loop_here(), message.code))

    def block(self, client: twspy.Connection) -> str:
        """An act that takes until `go` is set."""
        self.blocked.release()
        assert self.go.wait(SOON)
        return 'done'

    def await_blocked(self) -> None:
        """Wait until one more handler is in block()."""
        assert self.blocked.acquire(timeout=SOON)


class Client(RawPeer):
    """A raw peer that knows which loop serves it."""

    loop = -1

    @classmethod
    def of(cls, server: twspy.Server) -> Client:
        """Connect to a server's address, whatever that is."""
        address = server.address
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family)
        sock.connect(address)
        peer = cls(sock, SOON)
        peer.send(request())
        status, _ = peer.read_head()
        if status == 101:
            peer.loop = int(peer.read_text())
        else:
            peer.close()
            assert status == 503
        return peer

    def read_text(self) -> str:
        frame = self.read_frame()
        assert frame.opcode == TEXT, frame
        return frame.payload.decode()

    def say(self, what: str) -> None:
        self.send_frame(TEXT, what.encode())

    def ask(self, what: str) -> str:
        self.say(what)
        return self.read_text()

    def expect_close(self, code: int = 1001) -> str:
        frame = self.read_frame()
        assert (frame.opcode, frame.close_code) == (CLOSE, code), frame
        self.send_frame(CLOSE, close_payload(code))
        self.expect_end()
        return frame.close_reason


@contextmanager
def serving(loops: int, **options: Any) -> Iterator[LoopServer]:
    server = LoopServer(**options)
    server.start(loops)
    try:
        yield server
    finally:
        server.go.set()
        server.stop()


def connect_to_each(
    server: twspy.Server, stack: ExitStack, loops: int, each: int = 1
) -> list[list[Client]]:
    """So many clients of each loop, by its number."""
    clients: list[list[Client]] = [[] for _ in range(loops)]
    deadline = time.monotonic() + SOON
    while any(len(of_loop) < each for of_loop in clients):
        assert time.monotonic() < deadline, clients
        client = stack.enter_context(Client.of(server))
        if len(clients[client.loop]) < each:
            clients[client.loop].append(client)
        else:
            client.send_frame(CLOSE, close_payload(1000))
            client.read_frame()
            client.close()
    wait_until(lambda: len(server.clients) == each * loops)
    return clients


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, 'it has not come to that'
        time.sleep(0.005)


def is_refused(address: Any) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(address) == errno.ECONNREFUSED


def count_descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


# --- clients of all loops together ---


def test_clients_are_spread_over_the_loops() -> None:
    with serving(4) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client.of(server)) for _ in range(60)]
        assert {client.loop for client in clients} == {0, 1, 2, 3}
        for turn in range(3):
            for client in clients:
                client.say(f'turn {turn}')
            for client in clients:
                assert client.read_text() == f'turn {turn}'
        listed = server.clients
        assert len(set(listed)) == 60
        assert {str(client) for client in listed} == {
            '{}:{}'.format(*client.address) for client in clients
        }


def test_stats_are_sums_over_the_loops() -> None:
    with serving(3) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client.of(server)) for _ in range(30)]
        for client in clients:
            assert client.ask('12345') == '12345'
        clients[0].close()
        with RawPeer.open(server.address) as peer:
            peer.send(b'nonsense\r\n\r\n')
            peer.read_head()
        wait_until(lambda: server.stats()['clients'] == 29)
        wait_until(lambda: server.stats()['refused'] == 1)
        stats = server.stats()
        wanted = {
            'accepted': 30,
            'refused': 1,
            'messages_in': 30,
            'messages_out': 60,
            'bytes_in': 150,
            'bytes_out': 180,
            'slow_dropped': 0,
        }
        assert wanted.items() <= stats.items(), stats
        prefix = f'twspy 127.0.0.1:{server.address[1]} '
        threads = [
            thread.name
            for thread in threading.enumerate()
            if thread.name.startswith(prefix)
        ]
        assert stats['threads'] == len(threads)
        for loop in range(3):
            name = f'{prefix}loop {loop} #'
            assert any(each.startswith(name) for each in threads), threads


def test_one_loop_has_threads_without_a_number() -> None:
    with twspy.Server(('127.0.0.1', 0)) as server:
        names = [thread.name for thread in threading.enumerate()]
        assert f'twspy 127.0.0.1:{server.address[1]} #1' in names


def test_broadcast_reaches_all_loops() -> None:
    with serving(3) as server, ExitStack() as stack:
        clients = connect_to_each(server, stack, 3, each=2)
        assert server.broadcast('to all') == 6
        for of_loop in clients:
            for client in of_loop:
                assert client.read_text() == 'to all'
        server.acts['others'] = lambda client: server.broadcast(
            'from one', exclude=client
        )
        assert clients[1][0].ask('others') == '5'
        del clients[1][0]
        for of_loop in clients:
            for client in of_loop:
                assert client.read_text() == 'from one'
        some = [each for each in server.clients if each.loop != 2]
        assert server.broadcast('to some', to=some) == 4
        assert clients[0][0].read_text() == 'to some'
        assert clients[2][0].ask('nothing before') == 'nothing before'


def test_handlers_use_clients_of_other_loops() -> None:
    with serving(2) as server, ExitStack() as stack:
        [[one], [other]] = connect_to_each(server, stack, 2)
        [target] = [each for each in server.clients if each.loop == 1]
        server.acts['send'] = lambda client: target.send('hello')
        server.acts['recv'] = lambda client: target.recv()
        server.acts['close'] = lambda client: target.close(4000, 'enough')
        assert one.ask('send') == 'None'
        assert other.read_text() == 'hello'
        assert one.ask('recv') == 'ConcurrencyError'
        one.say('close')
        assert other.expect_close(4000) == 'enough'
        assert one.read_text() == 'None'
        assert target.state == 'closed'
        assert server.closes[-1] == (1, 4000)


def test_max_clients_counts_over_all_loops() -> None:
    with serving(3, max_clients=4) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client.of(server)) for _ in range(4)]
        for _ in range(2):
            assert all(client.loop >= 0 for client in clients)
            for _ in range(20):
                assert Client.of(server).loop == -1
            client = clients.pop(0)
            client.send_frame(CLOSE, close_payload(1000))
            client.read_frame()
            wait_until(lambda: len(server.clients) == 3)
            clients.append(stack.enter_context(Client.of(server)))
        assert server.stats()['refused'] == 40


# --- slow handlers ---


def test_slow_handler_in_each_loop_holds_nobody_up() -> None:
    with serving(3) as server, ExitStack() as stack:
        server.acts['block'] = server.block
        clients = connect_to_each(server, stack, 3, each=4)
        for slow, _, _, _ in clients:
            slow.say('block')
            server.await_blocked()
        for _, *quick in clients:
            for client in quick:
                assert client.ask('quick') == 'quick'
        again = [stack.enter_context(Client.of(server)) for _ in range(20)]
        assert {client.loop for client in again} == {0, 1, 2}
        server.go.set()
        for slow, _, _, _ in clients:
            assert slow.read_text() == 'done'


def test_waiting_for_a_client_of_another_loop_hands_over_at_once() -> None:
    """The watchdog would do it, but only after some milliseconds."""
    with serving(2, max_queue=1000) as server, ExitStack() as stack:
        [[one], [other]] = connect_to_each(server, stack, 2)
        [target] = [each for each in server.clients if each.loop == 1]
        other.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
        while target.queued < 1000:
            target.send(b'x' * 100_000)

        def wait_a_little(client: twspy.Connection) -> int:
            before = server.stats()['handovers']
            with pytest.raises(TimeoutError):
                target.send('more', timeout=0.0001)
            return int(server.stats()['handovers'] - before)

        server.acts['wait'] = wait_a_little
        # Where this thread is held up, the watchdog may be first.
        assert sum(int(one.ask('wait')) for _ in range(10)) >= 5


@pytest.mark.parametrize(
    ('max_threads', 'shares'), [(5, [3, 2]), (2, [2, 2]), (1, [1, 1])]
)
def test_threads_are_divided_among_the_loops(
    max_threads: int, shares: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(2, max_threads=max_threads) as server,
        ExitStack() as stack,
    ):
        server.acts['block'] = server.block
        clients = connect_to_each(server, stack, 2, each=3)
        for of_loop, share in zip(clients, shares, strict=True):
            for client in of_loop[:share]:
                client.say('block')
                server.await_blocked()
        assert server.stats()['threads'] == sum(shares)
        # Had they one more, one of these would come to it.
        for of_loop, share in zip(clients, shares, strict=True):
            for client in of_loop[share:]:
                client.say('block')
        assert not server.blocked.acquire(timeout=0.1)
        server.go.set()
    told = re.findall(r'of the (\d) threads of \S+ loop (\d)', caplog.text)
    wanted = {(str(n), str(i)) for i, n in enumerate(shares) if n > 1}
    assert sorted(told) == sorted(wanted)


# --- listening ---


@pytest.mark.parametrize('kind', ['unix', 'sock'])
def test_loops_accept_from_one_socket(kind: str, tmp_path: Path) -> None:
    """Where it can't be bound again. With a thread each, a loop that is in a
    handler does not accept."""
    before = count_descriptors()
    path = tmp_path / 'socket'
    given: dict[str, Any] = {'address': str(path)}
    if kind == 'sock':
        sock = socket.create_server(('127.0.0.1', 0))
        given = {'address': None, 'sock': sock}
    with (
        serving(3, max_threads=1, **given) as server,
        ExitStack() as stack,
    ):
        server.acts['block'] = server.block
        clients = []
        for _ in range(3):
            clients.append(stack.enter_context(Client.of(server)))
            clients[-1].say('block')
            server.await_blocked()
        assert {client.loop for client in clients} == {0, 1, 2}
        server.go.set()
        for client in clients:
            assert client.read_text() == 'done'
        assert server.broadcast('all') == 3
        server.acts.clear()  # they refer to it
    assert os.listdir(tmp_path) == []
    if kind == 'sock':
        assert is_refused(server.address)
    del server
    wait_until(lambda: count_descriptors() <= before)


def test_port_is_shared_only_where_there_are_loops() -> None:
    for loops, shared in (1, False), (2, True):
        with serving(loops) as server:
            sock = server._runner.listener.sock
            option = socket.SOL_SOCKET, socket.SO_REUSEPORT
            assert bool(sock.getsockopt(*option)) == shared
            with pytest.raises(OSError, match='in use'):
                twspy.Server(server.address)


@pytest.mark.parametrize('address', [('', 0), ('::', 0), ('::1', 0)])
def test_loops_listen_on_the_same_addresses(address: Any) -> None:
    with serving(3, address=address) as server:
        sockets = server._runner.listener.open_more(3)
        assert len({os.fstat(sock.fileno()).st_ino for sock in sockets}) == 3
        assert {sock.getsockname() for sock in sockets} == {server.address}
        level, option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
        assert all(sock.getsockopt(level, option) for sock in sockets)
        host = '127.0.0.1' if address[0] != '::1' else '::1'
        for _ in range(20):
            RawPeer.connect((host, server.address[1])).close()


def test_what_was_opened_is_closed_where_one_socket_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[socket.socket] = []

    def bind_two(sock: socket.socket) -> socket.socket:
        if len(opened) == 2:
            raise OSError(errno.EMFILE, 'too many')
        opened.append(bind_beside(sock))
        return opened[-1]

    bind_beside = _binding.bind_beside
    monkeypatch.setattr(_binding, 'bind_beside', bind_two)
    server = LoopServer()
    with pytest.raises(OSError, match='too many'):
        server.start(4)
    assert [sock.fileno() for sock in opened] == [-1, -1]
    # One can go on with less.
    with ExitStack() as stack:
        opened.clear()
        stack.callback(server.stop)
        server.start(3)
        connect_to_each(server, stack, 3)


def test_what_was_opened_is_closed_where_listening_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = LoopServer()
    more: list[socket.socket] = []

    def close_last(count: int) -> tuple[socket.socket, ...]:
        sockets = open_more(count)
        more.extend(sockets[1:])
        more[-1].close()
        return sockets

    open_more = server._runner.listener.open_more
    monkeypatch.setattr(server._runner.listener, 'open_more', close_last)
    with pytest.raises(ValueError, match='socket is closed'):
        server.start(3)
    assert [sock.fileno() for sock in more] == [-1, -1]
    monkeypatch.undo()
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.start(2)
        connect_to_each(server, stack, 2)


def test_loops_end_where_the_last_has_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start_two(runner: Runner, index: int) -> threading.Thread:
        if index == 2:
            raise RuntimeError("can't start new thread")
        return start_thread(runner, index)

    start_thread = Runner._start_thread
    monkeypatch.setattr(Runner, '_start_thread', start_two)
    before = count_descriptors()
    server = LoopServer()
    with pytest.raises(RuntimeError, match="can't start"):
        server.start(3)
    assert repr(server).endswith(' stopped>')
    assert is_refused(server.address)
    server.stop()
    assert server._runner.threads == {}
    with pytest.raises(RuntimeError, match='has run'):
        server.start()
    del server
    wait_until(lambda: count_descriptors() <= before)


def test_loop_that_fails_ends_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start_without_socket(runner: Runner, index: int) -> threading.Thread:
        if index == 1:
            runner.listener._more[0].close()
        return start_thread(runner, index)

    start_thread = Runner._start_thread
    monkeypatch.setattr(Runner, '_start_thread', start_without_socket)
    server = LoopServer().start(3)
    wait_until(lambda: repr(server).endswith(' stopped>'))
    assert is_refused(server.address)
    with pytest.raises(OSError, match='Bad file descriptor'):
        server.stop()


# --- the end ---


def test_stop_ends_all_loops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'twspy.server')
    before, threads = count_descriptors(), threading.active_count()
    with ExitStack() as stack:
        server = LoopServer(max_join_time=SOON)
        assert server.start(3) is server
        clients = connect_to_each(server, stack, 3, each=2)
        stopping = threading.Thread(target=server.stop, args=[4001, 'bye'])
        stopping.start()
        for of_loop in clients:
            for client in of_loop:
                assert client.expect_close(4001) == 'bye'
        stopping.join(SOON)
        assert not stopping.is_alive()
        ends = sorted(loop for loop, code in server.closes if code == 4001)
        assert ends == [0, 0, 1, 1, 2, 2]
        assert is_refused(server.address)
        assert server.clients == []
        with pytest.raises(RuntimeError, match='make a new one'):
            server.start(2)
    lines = [record.message.split(' on ')[0] for record in caplog.records]
    assert lines == ['listening', 'stopped listening']
    del server
    wait_until(lambda: count_descriptors() <= before)
    assert threading.active_count() <= threads


def test_stop_waits_for_the_last_loop() -> None:
    with serving(2, max_join_time=SOON) as server, ExitStack() as stack:
        [[one], [other]] = connect_to_each(server, stack, 2)
        server.acts['stop'] = lambda client: server.stop()
        one.say('stop')  # in a handler, it does not wait
        assert one.read_text() == 'None'
        one.expect_close()
        wait_until(lambda: server.closes[-1:] == [(0, 1001)])
        assert repr(server).endswith(' running>')
        other.expect_close()
        wait_until(lambda: repr(server).endswith(' stopped>'))


PROGRAM = """
import logging, os, sys, threading, time
import twspy

class Server(twspy.Server):
    def onopen(self, client):
        client.send(threading.current_thread().name + f' {os.getpid()}')

    def onmessage(self, client, message):
        exec(message.payload)

    def onclose(self, client, message):
        os.write(1, b'close %d\\n' % message.code)

server = Server(('127.0.0.1', 0), max_join_time=30.0, close_timeout=30.0)
print('port', server.address[1], flush=True)
server.run(RUN)
print('after')
"""


@contextmanager
def running(run: str) -> Iterator[tuple[Program, Callable[[], list[RawPeer]]]]:
    """A program, and what connects a client to each of its four loops."""
    text = PROGRAM.replace('RUN', run)
    with run_python('-c', text, cwd=Path()) as program, ExitStack() as stack:
        port = int(program.wait_for(r'port (\d+)')[1])

        def connect() -> list[RawPeer]:
            peers: dict[object, RawPeer] = {}
            deadline = time.monotonic() + SOON
            while len(peers) < 4:
                assert time.monotonic() < deadline, peers
                peer = RawPeer.connect(('127.0.0.1', port))
                stack.callback(peer.close)
                text = peer.read_frame().payload.decode()
                found = re.search(r' loop (\d) #\d+ (\d+)$', text)
                assert found is not None, text
                if found.groups() in peers:
                    peer.send_frame(CLOSE, close_payload(1000))
                    peer.read_frame()
                    peer.close()
                else:
                    peers[found.groups()] = peer
            return list(peers.values())

        yield program, connect


def expect_1001(peers: list[RawPeer]) -> None:
    for peer in peers:
        assert peer.read_frame().close_code == 1001
        peer.send_frame(CLOSE, close_payload(1001))
        peer.close()


def test_ctrl_c_ends_all_loops() -> None:
    with running('loops=4') as (program, connect):
        program.wait_for('listening on')
        peers = connect()
        program.send_signal(signal.SIGINT)
        expect_1001(peers)
        assert program.wait() == 0
        assert program.lines.count('close 1001') == 4
        assert program.lines[-1] == 'after'
        assert 'Traceback' not in program.text


def test_second_ctrl_c_ends_all_loops_at_once() -> None:
    with running('loops=4') as (program, connect):
        program.wait_for('listening on')
        peers = connect()
        program.send_signal(signal.SIGINT)
        for peer in peers:  # which do not answer
            assert peer.read_frame().close_code == 1001
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert program.lines.count('close 1006') == 4
        assert program.lines[-1] == 'after'


def test_exit_in_a_handler_ends_all_loops() -> None:
    with running('loops=4') as (program, connect):
        program.wait_for('listening on')
        peers = connect()
        peers[2].send_frame(TEXT, b'sys.exit(7)')
        expect_1001(peers)
        assert program.wait() == 7
        assert program.lines.count('close 1001') == 4
        assert 'after' not in program.lines


def test_workers_have_loops() -> None:
    with running('workers=2, loops=2') as (program, connect):
        for _ in range(2):
            program.wait_for('listening on')
        peers = connect()
        peers[0].send_frame(TEXT, b'print(server.stats()["clients"])')
        program.wait_for('^2$')
        program.send_signal(signal.SIGINT)
        expect_1001(peers)
        assert program.wait() == 0
        assert program.lines.count('close 1001') == 4
        assert program.lines.count('after') == 1


# --- what is given ---


@pytest.mark.parametrize('loops', [1.0, '2', True, None, b''])
def test_loops_is_a_number(loops: Any) -> None:
    server = twspy.Server(('127.0.0.1', 0))
    for call in server.start, lambda n: server.run(loops=n):
        with pytest.raises(TypeError, match=r'loops is .*, expected a number'):
            call(loops)
    with pytest.raises(TypeError, match='loops is'):
        server.run(2, loops)
    with server:
        RawPeer.connect(server.address).close()


@pytest.mark.parametrize('loops', [0, -1])
def test_loops_is_at_least_one(loops: int) -> None:
    server = twspy.Server(('127.0.0.1', 0))
    for call in server.start, lambda n: server.run(loops=n):
        with pytest.raises(ValueError, match=rf'loops is {loops}, .* 1'):
            call(loops)
    with server:
        RawPeer.connect(server.address).close()


def test_start_without_the_argument_can_be_overridden() -> None:
    class Old(twspy.Server):
        def start(self) -> twspy.Server:  # type: ignore[override]
            started.append(self)
            threading.Timer(0.05, self.stop).start()
            return super().start()

    started: list[object] = []
    server = Old(('127.0.0.1', 0))
    server.run()
    assert started == [server]
