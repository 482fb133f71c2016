"""The server: handlers, clients, broadcast, starting and stopping."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
    pack,
)
from servers import SOON, EchoServer

import twspy


class Recorder(twspy.Server):
    """Records the handlers that are called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(('127.0.0.1', 0), **options)
        self.calls: list[tuple[Any, ...]] = []
        self.closed = threading.Event()

    def onopen(self, client: twspy.Connection) -> None:
        self.calls.append(('open', client))

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        self.calls.append(('message', client, message))

    def onping(self, client: twspy.Connection, payload: bytes) -> None:
        self.calls.append(('ping', client, payload))

    def onpong(self, client: twspy.Connection, payload: bytes) -> None:
        self.calls.append(('pong', client, payload))

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        self.calls.append(('close', client, message))
        self.closed.set()


def test_handlers_are_called_in_order() -> None:
    with Recorder() as server, RawPeer.connect(server.address) as peer:
        peer.send(
            pack(TEXT, 'ä'.encode())
            + pack(BINARY, b'\0\1')
            + pack(PING, b'p')
            + pack(PONG, b'q')
            + pack(CLOSE, close_payload(1000, 'bye'))
        )
        assert peer.read_frame()[:2] == (PONG, b'p')
        assert server.closed.wait(SOON)
    names = [call[0] for call in server.calls]
    assert names == ['open', 'message', 'message', 'ping', 'pong', 'close']
    clients = {call[1] for call in server.calls}
    assert len(clients) == 1
    client = clients.pop()
    assert type(client) is twspy.Connection
    arguments = [call[2] for call in server.calls[1:]]
    assert arguments == [
        twspy.TextMessage('ä'),
        twspy.BinaryMessage(b'\0\1'),
        b'p',
        b'q',
        twspy.CloseMessage(1000, 'bye'),
    ]
    host, port = peer.address
    assert str(client) == f'{host}:{port}'
    assert client.remote_address == (host, port)
    assert client.state == 'closed'
    with pytest.raises(twspy.SocketClosed) as caught:
        client.send('too late')
    assert caught.value.code == 1000
    assert caught.value.reason == 'bye'


def test_onclose_with_the_client_alone() -> None:
    closed: list[Any] = []
    done = threading.Event()

    class Server(twspy.Server):
        def onclose(self, client):  # type: ignore[override, no-untyped-def]
            closed.append(client)
            done.set()

    with Server(('127.0.0.1', 0)) as server:
        RawPeer.connect(server.address).close()
        assert done.wait(SOON)
        assert len(closed) == 1
        # An override on the instance is looked at anew.
        done.clear()
        messages: list[Any] = []

        def both(client: Any, message: Any) -> None:
            messages.append(message)
            done.set()

        server.onclose = both  # type: ignore[method-assign]
        RawPeer.connect(server.address).close()
        assert done.wait(SOON)
        assert [m.code for m in messages] == [1006]
        done.clear()
        server.onclose = lambda client: done.set()  # type: ignore
        RawPeer.connect(server.address).close()
        assert done.wait(SOON)


def test_typeerror_inside_onclose_is_an_error_not_a_signature() -> None:
    class Server(EchoServer):
        def onclose(self, client, message):  # type: ignore[no-untyped-def]
            raise TypeError('mine')

    with Server() as server:
        RawPeer.connect(server.address).close()
        _, error = server.wait_for('error')
        assert str(error) == 'mine'


@pytest.mark.parametrize('handler', ['onopen', 'onmessage', 'onping'])
def test_a_handler_may_raise(handler: str) -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        peer.echo()

        def fail(*args: Any) -> None:
            raise LookupError(handler)

        setattr(server, handler, fail)
        with RawPeer.connect(server.address) as other:
            other.send(pack(PING) + pack(TEXT, b'hi'))
            client, error = server.wait_for('error')
            assert isinstance(error, LookupError)
            assert client.remote_address == other.address
            delattr(server, handler)
            assert other.read_frame().opcode == PONG
            if handler != 'onmessage':
                assert other.read_frame().payload == b'hi'
            other.echo()


def test_default_onerror_logs_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Server(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send(message)
            raise LookupError('where is it?')

    with Server(('127.0.0.1', 0)) as server:
        with RawPeer.connect(server.address) as peer:
            peer.echo()
            peer.echo()
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(records) == 2
    assert records[0].exc_info is not None
    assert 'where is it?' in caplog.text
    assert 'Traceback' in caplog.text


def test_onerror_that_raises_is_unraisable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(sys, 'unraisablehook', caught.append)

    class Server(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send(message)
            raise LookupError

        def onerror(
            self, client: twspy.Connection | None, error: Exception
        ) -> None:
            raise ValueError('worse')

    with Server(('127.0.0.1', 0)) as server:
        with RawPeer.connect(server.address) as peer:
            peer.echo()
            peer.echo()
    assert [str(c.exc_value) for c in caught] == ['worse', 'worse']


def test_fragments_are_sent() -> None:
    class Server(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send(message, 3)
            client.send('', fragment_size=1)
            with pytest.raises(ValueError):
                client.send(message, 0)

    with Server(('127.0.0.1', 0)) as server:
        with RawPeer.connect(server.address) as peer:
            peer.send_frame(TEXT, b'12345678')
            frames = [peer.read_frame() for _ in range(4)]
            assert [f[:3] for f in frames] == [
                (TEXT, b'123', False),
                (CONTINUATION, b'456', False),
                (CONTINUATION, b'78', True),
                (TEXT, b'', True),
            ]
            assert not any(f.masked for f in frames)


def test_recv_inside_a_handler() -> None:
    class Server(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            if message.payload == 'add':
                first, second = client.recv(), client.recv()
                total = int(first.payload) + int(second.payload)
                client.send(str(total))
            else:
                client.send(message)

    with Server() as server, RawPeer.connect(server.address) as peer:
        peer.send(
            b''.join(pack(TEXT, t) for t in (b'add', b'20', b'22', b'next'))
        )
        assert peer.read_frame().payload == b'42'
        assert peer.read_frame().payload == b'next'
        peer.send_frame(TEXT, b'add')
        for text in b'20', b'22':
            peer.send_frame(PING)
            assert peer.read_frame().opcode == PONG
            for byte in pack(TEXT, text):
                peer.send(bytes([byte]))
        assert peer.read_frame().payload == b'42'
        peer.send_frame(TEXT, b'add')
        peer.send_frame(CLOSE, close_payload(3001, 'no'))
        assert peer.read_frame().close_code == 3001
        _, error = server.wait_for('error')
        assert isinstance(error, twspy.SocketClosed)
        assert (error.code, error.reason) == (3001, 'no')
        assert server.wait_for('close')[1:] == (3001, 'no')


def test_recv_with_timeout_inside_a_handler() -> None:
    class Server(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.05)
            client.send(message)

    with Server() as server, RawPeer.connect(server.address) as peer:
        peer.echo()


def test_recv_outside_the_clients_handlers_is_refused() -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        (client,) = server.wait_for('open')
        with pytest.raises(twspy.ConcurrencyError, match='own handlers'):
            client.recv()
        with pytest.raises(RuntimeError, match='server'):
            client.receive_forever()
        peer.echo()


def test_send_from_any_thread_never_interleaves() -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        (client,) = server.wait_for('open')
        sizes = (1, 100, 126, 5_000, 20_000, 70_000)

        def send(name: int) -> None:
            for number in range(60):
                body = bytes([name]) * sizes[number % len(sizes)]
                client.send(body, 7_000 if number % 2 else None)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        counts = [0] * 8
        while sum(counts) < 8 * 60:
            frame = peer.read_frame()
            assert frame.opcode == BINARY
            body = frame.payload
            while not frame.fin:
                frame = peer.read_frame()
                assert frame.opcode == CONTINUATION
                body += frame.payload
            name = body[0]
            assert body == bytes([name]) * sizes[counts[name] % len(sizes)]
            counts[name] += 1
        for thread in threads:
            thread.join()


def test_clients_and_broadcast() -> None:
    with EchoServer() as server:
        peers = [RawPeer.connect(server.address) for _ in range(5)]
        clients = [server.wait_for('open')[0] for _ in range(5)]
        assert set(server.clients) == set(clients)
        assert server.broadcast('all') == 5
        assert server.broadcast(b'some', to=clients[:2]) == 2
        assert server.broadcast('rest', exclude=clients[:2]) == 3
        assert server.broadcast('one less', exclude=clients[4]) == 4
        assert server.broadcast('end') == 5
        expected = [b'all', b'some', b'one less', b'end']
        assert [
            [p.read_frame().payload for _ in range(4)] for p in peers[:2]
        ] == [expected] * 2
        expected[1] = b'rest'
        assert [
            [p.read_frame().payload for _ in range(4)] for p in peers[2:4]
        ] == [expected] * 2
        assert [peers[4].read_frame().payload for _ in range(3)] == [
            b'all',
            b'rest',
            b'end',
        ]
        with pytest.raises(TypeError, match='clients of this server'):
            server.broadcast('x', to=['nobody'])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="'skip' or 'close'"):
            server.broadcast('x', slow='wait')  # type: ignore[arg-type]
        for peer in peers:
            peer.close()


def test_a_client_that_reads_nothing_is_skipped_and_bounded() -> None:
    with EchoServer() as server:
        slow = RawPeer.connect(server.address)
        server.wait_for('open')
        block = b'x' * 100_000
        queued = 0
        for _ in range(300):
            queued += server.broadcast(block)
        assert 10 <= queued < 150, queued
        with RawPeer.connect(server.address) as quick:
            server.wait_for('open')
            assert server.broadcast('hello') == 1
            assert quick.read_frame().payload == b'hello'
            assert server.broadcast('bye', slow='close') == 1
            assert quick.read_frame().payload == b'bye'
        # What was queued arrives, then the Close.
        for _ in range(queued):
            assert slow.read_frame().payload == block
        assert slow.read_frame().close_code == 1008
        slow.close()


def test_echo_to_a_peer_that_does_not_read_is_paused_then_complete() -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        message = pack(BINARY, b'y' * 50_000)
        count = 400

        def send() -> None:
            for _ in range(count):
                peer.send(message)

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.3)  # by now both directions are full
        for _ in range(count):
            assert peer.read_frame().payload == b'y' * 50_000
        sender.join()


def test_close_by_the_server() -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        (client,) = server.wait_for('open')
        closer = threading.Thread(target=client.close, args=(4000, 'enough'))
        closer.start()
        while client.state == 'open':
            time.sleep(0.001)
        assert client.state == 'closing'
        with pytest.raises(twspy.SocketClosed):
            client.send('more')
        frame = peer.read_frame()
        assert (frame.close_code, frame.close_reason) == (4000, 'enough')
        peer.send_frame(TEXT, b'ignored')
        peer.send_frame(CLOSE, close_payload(4000))
        assert server.wait_for('close')[1] == 4000
        peer.expect_end()
        closer.join()


def test_unanswered_close_is_given_up() -> None:
    with EchoServer(close_timeout=0.2) as server:
        with RawPeer.connect(server.address) as peer:
            (client,) = server.wait_for('open')
            client.close()
            _, code, reason = server.wait_for('close')
            assert code == 1006
            assert 'in time' in reason
            assert peer.read_frame().close_code == 1000


def test_close_in_every_handler() -> None:
    for handler in ('onopen', 'onmessage', 'onping', 'onpong', 'onclose'):
        with EchoServer() as server:

            def close(client: twspy.Connection, *args: Any) -> None:
                client.close(1000, 'here')
                client.sock.close()

            setattr(server, handler, close)
            with RawPeer.connect(server.address) as peer:
                peer.send(pack(PONG) + pack(PING) + pack(TEXT, b'x'))
                try:
                    peer.send(pack(CLOSE))
                    while True:
                        peer.read_frame()
                except (EOFError, ConnectionError):
                    pass
            delattr(server, handler)
            with RawPeer.connect(server.address) as peer:
                peer.echo()


def test_plain_http() -> None:
    class Server(EchoServer):
        def onrequest(self, request: twspy.Request) -> twspy.Response | None:
            if request.path == '/health':
                body = f'{request.method} {request.query} '
                body += str(request.headers['X-Who'])
                return twspy.Response(200, {'X-Answer': 'yes'}, body)
            if request.path == '/broken':
                raise LookupError
            if request.path == '/wrong':
                return 'text'  # type: ignore[return-value]
            return None

    def ask(path: str) -> tuple[int, dict[str, str], str]:
        with RawPeer.open(server.address) as peer:
            peer.send(f'GET {path} HTTP/1.1\r\nHost: a\r\n'.encode())
            peer.send(b'X-Who: me\r\n\r\n')
            return peer.read_answer()

    with Server() as server:
        status, head, body = ask('/health?q=1')
        assert (status, body) == (200, 'GET q=1 me')
        assert head['x-answer'] == 'yes'
        assert ask('/other')[0] == 426
        assert ask('/broken')[0] == 500
        assert isinstance(server.wait_for('error')[1], LookupError)
        assert ask('/wrong')[0] == 500
        assert isinstance(server.wait_for('error')[1], TypeError)
        with RawPeer.connect(server.address, '/health') as peer:
            peer.echo()


def test_stop_closes_every_client_with_1001() -> None:
    server = EchoServer()
    server.start()
    peers = [RawPeer.connect(server.address) for _ in range(3)]
    half = RawPeer.open(server.address)

    def answer(peer: RawPeer) -> None:
        frame = peer.read_frame()
        assert frame.close_code == 1001
        peer.send_frame(CLOSE, frame.payload)
        peer.expect_end()

    threads = [threading.Thread(target=answer, args=(p,)) for p in peers]
    for thread in threads:
        thread.start()
    server.stop()
    for thread in threads:
        thread.join(SOON)
    codes = [server.wait_for('close')[1] for _ in peers]
    assert codes == [1001] * 3
    assert half.sock.recv(1) == b''
    half.close()
    assert server.clients == []
    with pytest.raises(OSError):
        socket.create_connection(server.address, 1)
    server.stop()  # again, without effect
    with pytest.raises((RuntimeError, ValueError)):
        server.start()
    for peer in peers:
        peer.close()


def test_stop_waits_no_longer_than_max_join_time() -> None:
    server = EchoServer(max_join_time=0.3)
    server.start()
    with RawPeer.connect(server.address) as peer:
        server.wait_for('open')
        begin = time.monotonic()
        server.stop()
        assert 0.25 < time.monotonic() - begin < 5
        assert peer.read_frame().close_code == 1001
        assert server.wait_for('close')[1] == 1006


def connect_to(address: tuple[str, int]) -> RawPeer:
    """Connect to a server that is bound and about to listen."""
    end = time.monotonic() + SOON
    while True:
        try:
            return RawPeer.connect(address)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_stop_inside_a_handler() -> None:
    class Server(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            self.stop(1012, 'restart')

    server = Server()
    runner = threading.Thread(target=server.run)
    runner.start()
    with connect_to(server.address) as peer:
        peer.send_frame(TEXT, b'stop')
        frame = peer.read_frame()
        assert (frame.close_code, frame.close_reason) == (1012, 'restart')
        peer.send_frame(CLOSE, frame.payload)
    runner.join(SOON)
    assert not runner.is_alive()


def test_system_exit_in_a_handler_stops_the_server() -> None:
    class Server(EchoServer):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            raise SystemExit(3)

    server = Server()
    caught: list[Any] = []

    def run() -> None:
        try:
            server.run()
        except SystemExit as error:
            caught.append(error.code)

    runner = threading.Thread(target=run)
    runner.start()
    with connect_to(server.address) as peer:
        peer.send_frame(TEXT, b'exit')
        assert peer.read_frame().close_code == 1001
        peer.send_frame(CLOSE, close_payload(1001))
    runner.join(SOON)
    assert caught == [3]


def test_run_calls_an_overridden_start() -> None:
    class Server(EchoServer):
        def start(self) -> twspy.Server:
            self.events.put(('starting',))
            return super().start()

    server = Server()
    runner = threading.Thread(target=server.run)
    runner.start()
    server.wait_for('starting')
    connect_to(server.address).close()
    server.stop()
    runner.join(SOON)
    assert not runner.is_alive()


SCRIPT = """
import logging, sys, twspy

class Server(twspy.Server):
    def onopen(self, client):
        print('open', flush=True)
    def onclose(self, client, message):
        print('close', message.code, flush=True)

server = Server(('127.0.0.1', 0), max_join_time=float(sys.argv[1]))
print(server.address[1], flush=True)
server.run()
print('done', flush=True)
"""


def start_script(join_time: float) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(join_time)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_gracefully_with_1001(number: int) -> None:
    process, port = start_script(5.0)
    with connect_to(('127.0.0.1', port)) as peer:
        assert process.stdout is not None
        assert process.stdout.readline() == 'open\n'
        os.kill(process.pid, number)
        assert peer.read_frame().close_code == 1001
        peer.send_frame(CLOSE, close_payload(1001))
        out, err = process.communicate(timeout=SOON)
    assert out == 'close 1001\ndone\n'
    assert process.returncode == 0
    assert 'listening on 127.0.0.1' in err
    assert 'Traceback' not in err


def test_second_ctrl_c_stops_at_once() -> None:
    process, port = start_script(60.0)
    with connect_to(('127.0.0.1', port)) as peer:
        assert process.stdout is not None
        assert process.stdout.readline() == 'open\n'
        process.send_signal(signal.SIGINT)
        assert peer.read_frame().close_code == 1001
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON)
    assert out == 'close 1006\ndone\n'
    assert process.returncode == 0, err


def test_bind_errors_show_in_the_constructor() -> None:
    with EchoServer() as server:
        with pytest.raises(OSError):
            twspy.Server(server.address)
    with pytest.raises(TypeError, match='address'):
        twspy.Server(8000)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='a str and an int'):
        twspy.Server(('127.0.0.1', '80'))  # type: ignore[arg-type]
    for port in (-1, 65536, 99999):
        for host in ('', '127.0.0.1'):
            with pytest.raises(ValueError, match=f'port is {port}'):
                twspy.Server((host, port))
    with pytest.raises(TypeError, match='nonsense'):
        twspy.Server(('127.0.0.1', 0), nonsense=1)
    with pytest.raises(ValueError, match='same-origin'):
        twspy.Server(('127.0.0.1', 0), trusted_origins='sameorigin')
    with pytest.raises(ValueError, match='max_size'):
        twspy.Server(('127.0.0.1', 0), max_size=-1)


def test_names_of_a_subclass_do_not_collide_with_ours() -> None:
    ours = {name for name in vars(twspy.Server) if name[:2] != '__'}
    server = EchoServer()
    ours |= {name for name in vars(server) if name != 'events'}
    private = sorted(name for name in ours if name.startswith('_'))
    server.stop()
    assert private == ['_bound', '_runner']


def test_ipv6_and_dual_stack() -> None:
    with twspy.Server(('::', 0)) as server:
        port = server.address[1]
        for host in ('::1', '127.0.0.1'):
            RawPeer.connect((host, port)).close()
    with EchoServer() as server:
        assert server.address[0] == '127.0.0.1'
    with twspy.Server(('', 0)) as server:
        RawPeer.connect(('127.0.0.1', server.address[1])).close()


def test_logging_levels(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, 'twspy'):
        server = twspy.Server(('127.0.0.1', 0), logging.DEBUG)
        with server, RawPeer.connect(server.address) as peer:
            peer.send_frame(TEXT, 'hü'.encode())
            peer.send_frame(PING, b'x')
            assert peer.read_frame().opcode == PONG
    text = caplog.text
    for part in ('listening on', 'connected', "'hü'", 'stopped listening'):
        assert part in text
    caplog.clear()
    with caplog.at_level(logging.DEBUG, 'twspy'):
        server = twspy.Server(('127.0.0.1', 0))
        with server, RawPeer.connect(server.address) as peer:
            peer.send_frame(PING, b'x')
            assert peer.read_frame().opcode == PONG
    assert 'connected' not in caplog.text


def test_first_foreign_origin_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EchoServer() as server:
        for origin in ('http://localhost', 'http://evil.org', 'http://b.c'):
            with RawPeer.connect(server.address, Origin=origin) as peer:
                peer.echo()
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert 'evil.org' in warnings[0].getMessage()
    assert 'trusted_origins' in warnings[0].getMessage()


def test_hooks_on_a_client() -> None:
    class Server(EchoServer):
        def onopen(self, client: twspy.Connection) -> None:
            def upper(message: twspy.Message) -> twspy.Message:
                return twspy.TextMessage(message.payload.upper())

            def wrap(message: twspy.Message) -> twspy.Message:
                return twspy.TextMessage(f'<{message.payload}>')

            client.add_hook(send=wrap, recv=upper)
            client.add_hook(send=upper, prepend=True)
            client.add_hook(recv=wrap)

    with Server() as server, RawPeer.connect(server.address) as peer:
        peer.send_frame(TEXT, b'abc')
        assert peer.read_frame().payload == b'<<ABC>>'
        server.broadcast('def')
        assert peer.read_frame().payload == b'<DEF>'


def test_hook_that_raises_does_not_end_a_broadcast() -> None:
    with EchoServer() as server:
        peers = [RawPeer.connect(server.address) for _ in range(3)]
        clients = [server.wait_for('open', p)[0] for p in peers]

        def fail(message: twspy.Message) -> twspy.Message:
            raise LookupError

        clients[1].add_hook(send=fail)
        assert server.broadcast('x', to=clients) == 2
        client, error = server.wait_for('error')
        assert client is clients[1]
        assert isinstance(error, LookupError)
        for peer in (peers[0], peers[2]):
            assert peer.read_frame().payload == b'x'
        for peer in peers:
            peer.close()


def test_frames_through_client_sock() -> None:
    with EchoServer() as server, RawPeer.connect(server.address) as peer:
        (client,) = server.wait_for('open')
        sock = client.sock
        assert sock is client.sock
        assert sock.getpeername() == peer.address
        assert sock.getsockname() == server.address
        sock.send(
            twspy.Frame(twspy.OPCODE_TEXT, 'a', final=False, mask=True),
            twspy.ControlFrame(twspy.OPCODE_PING, b'p'),
            twspy.Frame(twspy.OPCODE_CONTINUATION, 'b'),
        )
        frames = [peer.read_frame() for _ in range(3)]
        assert [f.payload for f in frames] == [b'a', b'p', b'b']
        assert not any(f.masked for f in frames)
        with pytest.raises(RuntimeError, match='handlers'):
            sock.recv()


def test_client_takes_attributes_and_is_hashable() -> None:
    class Server(EchoServer):
        def onmessage(self, client: Any, message: twspy.Message) -> None:
            client.count = getattr(client, 'count', 0) + 1
            client.send(json.dumps({client.count: hash(client)}))

    with Server() as server, RawPeer.connect(server.address) as peer:
        peer.send(pack(TEXT, b'x') * 2)
        first, second = (
            json.loads(peer.read_frame().payload) for _ in range(2)
        )
        assert list(first) == ['1']
        assert list(second) == ['2']
        assert first['1'] == second['2']
