"""Servers on Unix sockets, IPv6, and sockets that others have opened: what
their clients are called, and that they are served."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rawpeer import CLOSE, RawPeer, close_payload, request
from servers import SOON, only_client

import twspy
from twspy import OPCODE_TEXT, Frame


class Names(twspy.Server):
    """Answers a message with what is known of its client."""

    def onmessage(self, client: Any, message: Any) -> None:
        names = [
            message.payload,
            str(client),
            repr(client.remote_address),
            repr(client.sock.request.remote_address),
            repr(client.local_address),
        ]
        client.send('|'.join(names))

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        return twspy.Response(200, body=repr(request.remote_address))


def ask(sock: socket.socket) -> tuple[str, ...]:
    """Connect with the library's own websocket; what the server answers."""
    sock.settimeout(SOON)
    with twspy.websocket(sock) as ws:
        ws.handshake()
        ws.send(Frame(OPCODE_TEXT, 'hello'))
        hello, *names = ws.recv().payload.decode().split('|')
        assert hello == 'hello'
        return tuple(names)


def connect_unix(path: Any, own: str | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    if own is not None:
        sock.bind(own)
    sock.connect(path)
    return sock


@contextmanager
def python(
    program: str, argument: str, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Python runs a program, until it ends or is killed."""
    with subprocess.Popen(
        [sys.executable, '-c', program, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def get(sock: socket.socket) -> str:
    """The body of the answer to a plain request."""
    with RawPeer(sock) as peer:
        peer.send(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        status, _, body = peer.read_answer()
        assert status == 200
        return body


# --- Unix sockets ---


def test_unix_socket(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = './app.sock'
    with caplog.at_level(logging.DEBUG, 'twspy'):
        with Names(path, logging.DEBUG) as server:
            assert server.address == path
            for own, name in (
                (None, f'unix:pid={os.getpid()}'),
                ('./peer', 'unix:./peer'),
                ('\0twspy-peer', 'unix:@twspy-peer'),
                ('./p\n', "unix:'./p\\n'"),
            ):
                sock = connect_unix(path, own)
                address = repr(sock.getsockname())
                expected = (name, address, address, repr(path))
                assert ask(sock) == expected
            assert get(connect_unix(path)) == "''"
        assert not os.path.exists(path)
    for text in ('listening on unix:./app.sock', 'client unix:pid='):
        assert text in caplog.text


def test_names_of_a_client_that_connects(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / 'app.sock')
    with Names(path), twspy.websocket(connect_unix(path)) as ws:
        ws.handshake()
        assert ws.getpeername() == path
        assert repr(ws).endswith(f'unix to unix:{path}>')
        with twspy.Connection(ws) as connection:
            assert str(connection) == f'unix:{path}'
            assert connection.remote_address == path
            assert connection.local_address == ''


def test_names_of_a_pair() -> None:
    one, two = twspy.pair()
    with one, two:
        assert str(one) == str(two) == f'unix:pid={os.getpid()}'
        assert one.remote_address == ''


def test_clients_wait_from_the_constructor_on(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / 'app.sock')
    server = Names(path)
    with RawPeer(connect_unix(path)) as peer:
        peer.send(request())
        with server:
            assert peer.read_head()[0] == 101
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_frame().close_code == 1000


def test_abstract_socket() -> None:
    name = f'\0twspy-listening-{os.getpid()}'
    with Names(name) as server:
        assert server.address == name.encode()
        names = ask(connect_unix(name))
    assert names[-1] == repr(name.encode())


SCRIPT = """
import sys, twspy
server = twspy.Server(sys.argv[1])
print(flush=True)
server.run()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_file_after_the_end_of_the_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = os.path.relpath(tmp_path / 'app.sock')
    for _ in range(2):
        with python(SCRIPT, path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with RawPeer(connect_unix(path)) as peer:
                peer.send(request())
                assert peer.read_head()[0] == 101  # it runs
            process.send_signal(number)
            process.communicate(timeout=SOON)
        assert os.path.exists(path) == (number == signal.SIGKILL)


# --- IPv6, and IPv4 on the same socket ---


def test_dual_stack() -> None:
    with Names(('::', 0)) as server:
        port = server.address[1]
        assert server.address == ('::', port, 0, 0)
        for host, text, address, local in (
            (
                '127.0.0.1',
                '127.0.0.1:{}',
                ('::ffff:127.0.0.1', 0, 0, 0),
                '::ffff:127.0.0.1',
            ),
            ('::1', '[::1]:{}', ('::1', 0, 0, 0), '::1'),
        ):
            sock = socket.create_connection((host, port))
            own = sock.getsockname()[1]
            expected = repr((address[0], own, 0, 0))
            assert ask(sock) == (
                text.format(own),
                expected,
                expected,
                repr((local, port, 0, 0)),
            )


def test_ipv6_only() -> None:
    with Names(('::1', 0)) as server:
        sock = socket.create_connection(server.address[:2])
        address = repr(sock.getsockname())
        name = f'[::1]:{sock.getsockname()[1]}'
        names = ask(sock)
        assert names == (name, address, address, repr(server.address))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', server.address[1]))


def test_localhost() -> None:
    with Names(('localhost', 0)) as server:
        ask(socket.create_connection(('localhost', server.address[1])))


# --- sockets that exist ---


@pytest.mark.parametrize('listens', [False, True])
@pytest.mark.parametrize('family', ['AF_INET', 'AF_INET6', 'AF_UNIX'])
def test_existing_socket(family: str, listens: bool, tmp_path: Path) -> None:
    number = getattr(socket, family)
    sock = socket.socket(number)
    address: Any = ('127.0.0.1', 0)
    if family == 'AF_INET6':
        address = ('::1', 0)
    elif family == 'AF_UNIX':
        address = os.path.relpath(tmp_path / 'app.sock')
    sock.bind(address)
    address = sock.getsockname()
    early = socket.socket(number)
    if listens:
        sock.listen()
        early.connect(address)
    with Names(sock=sock) as server:
        assert server.address == address
        late = socket.socket(number)
        late.connect(address)
        ask(late)
        if listens:
            ask(early)
    early.close()


ACTIVATED = """
import os, sys, twspy
os.dup2(int(sys.argv[1]), 3)
os.environ['LISTEN_PID'] = str(os.getpid())
class Echo(twspy.Server):
    def onmessage(self, client, message):
        client.send(message)
server = Echo()
print('LISTEN_FDS' in os.environ, server.address, flush=True)
server.run()
"""


def test_socket_activation(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / 'app.sock')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        number = listener.fileno()
        for _ in range(2):
            # What a service manager starts it for.
            with (
                connect_unix(path) as sock,
                python(
                    ACTIVATED,
                    str(number),
                    pass_fds=[number],
                    env=os.environ | {'LISTEN_FDS': '1'},
                ) as process,
            ):
                sock.settimeout(SOON)
                with twspy.websocket(sock, open_timeout=SOON) as ws:
                    ws.handshake()
                    ws.send(Frame(OPCODE_TEXT, 'hello'))
                    assert ws.recv().payload == b'hello'
                process.terminate()
                out, err = process.communicate(timeout=SOON)
                assert out == f'False {path}\n', err
            # The socket is the service manager's, to pass it on again.
            assert os.path.exists(path)


# --- options ---


def accepted_options(server: twspy.Server) -> list[bool]:
    """Options of a client's socket: TCP_NODELAY and SO_KEEPALIVE."""
    found = []
    with server:
        sock = socket.create_connection(server.address[:2])
        with RawPeer(sock) as peer:
            peer.send(request())
            assert peer.read_head()[0] == 101
            for level, name in (
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            ):
                sock = only_client(server).sock
                found.append(sock.getsockopt(level, name) != 0)
    return found


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_options_of_accepted_sockets(host: str) -> None:
    assert accepted_options(twspy.Server((host, 0))) == [True, True]
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    sock = socket.socket(family)
    sock.bind((host, 0))
    assert accepted_options(twspy.Server(sock=sock)) == [True, True]
