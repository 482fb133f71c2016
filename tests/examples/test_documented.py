"""The documented examples, each as a program of its own and unchanged."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets.sync.client
import websockets.sync.server
from ports import free_port
from programs import SOON, Program, run_python, wait_for_port
from rawpeer import CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer
from websockets.exceptions import ConnectionClosed

DOCUMENT = Path(__file__).with_name('documented.md')
GREETING = 'Grüße an 世界 🌍'


def code(title: str) -> str:
    """The program under a heading of the document."""
    text = DOCUMENT.read_text(encoding='utf-8')
    found = re.search(rf'\n## {title}\n((?:\n|    .*\n)+)', text)
    assert found is not None, title
    return textwrap.dedent(found[1]).strip('\n') + '\n'


@contextmanager
def example(
    tmp_path: Path, title: str, port: int, *options: str
) -> Iterator[Program]:
    """The running program of the document, with another port."""
    program = code(title)
    assert program.count('8000') == 1
    path = tmp_path / 'example.py'
    path.write_text(program.replace('8000', str(port)), encoding='utf-8')
    with run_python(*options, path.name, cwd=tmp_path) as running:
        yield running


def open_soon(port: int) -> RawPeer:
    """Reach a program that may still be starting."""
    wait_for_port(port)
    return RawPeer.open(('127.0.0.1', port))


def connect_soon(port: int, path: str = '/') -> RawPeer:
    """Connect to a program that may still be starting."""
    wait_for_port(port)
    return RawPeer.connect(('127.0.0.1', port), path)


class Peer:
    """A server of another implementation: keeps what it is told."""

    def __init__(self) -> None:
        self.paths: queue.Queue[str] = queue.Queue()
        self.messages: queue.Queue[str | bytes] = queue.Queue()

    def handle(
        self, connection: websockets.sync.server.ServerConnection
    ) -> None:
        assert connection.request is not None
        self.paths.put(connection.request.path)
        # The examples end without a closing handshake.
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.messages.put(connection.recv())


@pytest.fixture
def peer() -> Iterator[tuple[Peer, int]]:
    peer = Peer()
    with websockets.sync.server.serve(peer.handle, '127.0.0.1', 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield peer, server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_low_level_server(tmp_path: Path) -> None:
    port = free_port()
    with example(tmp_path, 'Low-level server', port, '-i') as program:
        with connect_soon(port) as client:
            frame = client.read_frame()
            assert (frame.opcode, frame.payload) == (TEXT, b'Hello, Client!')
            assert frame.fin and not frame.masked
            client.send_frame(TEXT, GREETING.encode())
            # The interpreter goes on after the program: what did it get?
            program.type('print(frame.opcode, frame.payload.decode())')
            program.wait_for(f'1 {GREETING}')
        assert program.wait() == 0
        assert 'Traceback' not in program.text


def test_low_level_server_waits_for_a_client_that_is_one(
    tmp_path: Path,
) -> None:
    port = free_port()
    with example(tmp_path, 'Low-level server', port) as program:
        with open_soon(port), open_soon(port) as stranger:
            stranger.send(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
            assert stranger.read_answer()[0] == 426
            open_soon(port).reset()
            with connect_soon(port) as client:
                assert client.read_frame().payload == b'Hello, Client!'
                client.reset()
        # recv() says what happened.
        assert program.wait() == 1
        assert program.lines[-1].startswith('twspy.SocketClosed: ')


def test_low_level_client(tmp_path: Path, peer: tuple[Peer, int]) -> None:
    other, port = peer
    with example(tmp_path, 'Low-level client', port) as program:
        assert other.paths.get(timeout=SOON) == '/my/path'
        assert other.messages.get(timeout=SOON) == 'Hello, Server!'
        assert program.wait() == 0
        assert program.lines == []


def test_json_message(tmp_path: Path, peer: tuple[Peer, int]) -> None:
    other, port = peer
    program, count = re.subn(
        '# create some connection `conn`...',
        f"conn = twspy.connect('ws://127.0.0.1:{port}/')",
        code('JSON messages'),
    )
    assert count == 1
    (tmp_path / 'example.py').write_text(program, encoding='utf-8')
    with run_python('example.py', cwd=tmp_path) as running:
        message = other.messages.get(timeout=SOON)
        assert message == '{"foo": "Hello, World!"}'
        assert running.wait() == 0
        assert running.lines == []


def exchange(client: RawPeer, program: Program) -> None:
    """What every echo server has to master."""
    for text in ('Hello', GREETING, '', 'x' * 70_000):
        client.echo(text.encode())
        program.wait_for(f'^Received message "{text}"$')

    # Fragments that cut a character, with a ping between them.
    data = GREETING.encode()
    client.send_frame(TEXT, data[:4], fin=False)
    client.send_frame(PING, b'are you there?')
    frame = client.read_frame()
    assert (frame.opcode, frame.payload) == (PONG, b'are you there?')
    client.send_frame(CONTINUATION, data[4:7], fin=False)
    client.send_frame(CONTINUATION, data[7:])
    frame = client.read_frame()
    assert (frame.opcode, frame.payload) == (TEXT, data)
    program.wait_for(f'^Received message "{GREETING}"$')


def test_echo_connection(tmp_path: Path) -> None:
    port = free_port()
    with example(tmp_path, 'Echo server of connections', port) as program:
        # One after the other: it serves one at a time.
        with connect_soon(port) as client:
            _, number = client.sock.getsockname()
            program.wait_for(f'^Connection opened at 127.0.0.1:{number}$')
            exchange(client, program)
            client.send_frame(CLOSE, b'\x03\xe8')
            assert client.read_frame().close_code == 1000
            program.wait_for('^Connection closed$')
            client.expect_end()
        # Clients that vanish, one in the middle of a message.
        for vanish in (RawPeer.close, RawPeer.reset):
            with connect_soon(port) as client:
                program.wait_for('^Connection opened')
                client.echo()
                client.send_frame(TEXT, b'cut', fin=False)
                vanish(client)
                program.wait_for('^Connection closed$')
        # A client of another implementation.
        with websockets.sync.client.connect(
            f'ws://127.0.0.1:{port}/'
        ) as other:
            other.send(GREETING)
            assert other.recv() == GREETING
        program.wait_for('^Connection closed$')
        assert 'Traceback' not in program.text
        # Ctrl-C interrupts accept() as it does with sockets.
        program.send_signal(signal.SIGINT)
        assert program.wait() != 0
        assert program.lines[-1] == 'KeyboardInterrupt'


def test_echo_server(tmp_path: Path) -> None:
    port = free_port()
    with example(tmp_path, 'Echo server', port) as program:
        with connect_soon(port) as client, connect_soon(port) as other:
            names = [
                f'127.0.0.1:{peer.sock.getsockname()[1]}'
                for peer in (client, other)
            ]
            for name in names:
                program.wait_for(f'^Client {name} connected$')
            exchange(client, program)
            other.echo(GREETING.encode())
            client.send_frame(CLOSE, b'\x03\xe8')
            assert client.read_frame().close_code == 1000
            program.wait_for(f'^Client {names[0]} disconnected$')
            client.expect_end()
            # Clients that vanish, in the middle of a message.
            for vanish in (RawPeer.close, RawPeer.reset):
                lost = connect_soon(port)
                program.wait_for(' connected$')
                lost.echo()
                lost.send_frame(TEXT, b'cut', fin=False)
                vanish(lost)
                program.wait_for(' disconnected$')
            with websockets.sync.client.connect(
                f'ws://127.0.0.1:{port}/'
            ) as another:
                another.send(GREETING)
                assert another.recv() == GREETING
            program.wait_for(' disconnected$')
            other.echo()
        assert 'Traceback' not in program.text


def test_echo_server_says_goodbye_on_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    with example(tmp_path, 'Echo server', port) as program:
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(connect_soon(port)) for _ in range(5)
            ]
            for client in clients:
                client.echo()
            program.send_signal(signal.SIGINT)
            for client in clients:
                frame = client.read_frame()
                assert (frame.opcode, frame.close_code) == (CLOSE, 1001)
                client.send_frame(CLOSE, frame.payload)
                client.expect_end()
        assert program.wait() == 0
        assert program.text.count('disconnected') == 5
        assert 'Traceback' not in program.text
