"""wss: servers and listening websockets, with TLS of our own (native) and by
way of an ssl.SSLContext, against Python's ssl module."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificates
from programs import Program
from rawends import in_thread, wait_until_receiving
from rawpeer import BINARY, CLOSE, TEXT, RawPeer, close_payload, pack, request
from servers import SOON, EchoServer

import twspy

Options = Callable[..., dict[str, Any]]


@pytest.fixture(params=['native', 'context'])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Options:
    """Options of a Server that encrypts; `asks` for clients' certificates."""

    def options(asks: bool = False) -> dict[str, Any]:
        if request.param == 'context':
            return {'ssl': certificates.server_context(asks=asks)}
        args: dict[str, Any] = {
            'certfile': certificates.server.certfile,
            'keyfile': certificates.server.keyfile,
        }
        if asks:
            args |= {
                'require_client_cert': True,
                'cafile': certificates.cafile,
            }
        return {'ssl_args': args}

    return options


@contextmanager
def wrap(
    server: Any, context: ssl.SSLContext, **options: Any
) -> Iterator[ssl.SSLSocket]:
    """A connection by Python's ssl module."""
    options.setdefault('server_hostname', 'localhost')
    options.setdefault('suppress_ragged_eofs', False)
    address = getattr(server, 'address', None) or server.getsockname()
    with socket.create_connection(address, timeout=SOON) as sock:
        with context.wrap_socket(sock, **options) as tls:
            yield tls


def handshake(sock: socket.socket) -> RawPeer:
    """The WebSocket handshake over it."""
    peer = RawPeer(sock)
    peer.send(request())
    status, _head = peer.read_head()
    assert status == 101
    return peer


def close(peer: RawPeer) -> None:
    """The closing handshake, down to close_notify."""
    peer.send_frame(CLOSE, close_payload(1000))
    assert peer.read_frame().opcode == CLOSE
    assert peer.sock.recv(1) == b''  # not suppressed: it was close_notify


def test_messages_of_every_size_come_back(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            peer = handshake(sock)
            for size in 0, 1, 125, 126, 16383, 16384, 16385, 65536, 1 << 20:
                payload = os.urandom(size)
                peer.send_frame(BINARY, payload)
                frame = peer.read_frame()
                assert (frame.opcode, frame.payload) == (BINARY, payload)
            close(peer)
        _client, code, _reason = server.wait_for('close')
        assert code == 1000


def test_many_messages_at_once_come_back_in_order(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            peer = handshake(sock)
            # Not from another thread: an ssl.SSLSocket may not be read and
            # written at the same time.
            for first in range(0, 3000, 100):
                payloads = [
                    b'%d' % i * (i % 997) for i in range(first, first + 100)
                ]
                peer.send(b''.join(pack(TEXT, each) for each in payloads))
                for payload in payloads:
                    assert peer.read_frame().payload == payload
            close(peer)


@pytest.mark.parametrize('version', ['TLSv1_2', 'TLSv1_3'])
def test_what_a_client_tells_of_its_encryption(
    tls: Options, certificates: Certificates, version: str
) -> None:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with EchoServer(**tls()) as server:
        with wrap(server, context) as sock:
            peer = handshake(sock)
            (client,) = server.wait_for('open')
            assert client.sock.secure
            assert client.sock.version == sock.version()
            assert client.sock.cipher == sock.cipher()
            assert client.sock.peer_certificate is None
            assert client.remote_address == sock.getsockname()
            close(peer)


@pytest.mark.filterwarnings('ignore:ssl.TLSVersion')
def test_old_versions_are_refused(certificates: Certificates) -> None:
    context = certificates.client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers('ALL:@SECLEVEL=0')
    args = {'certfile': certificates.server.combined}
    with EchoServer(ssl_args=args) as server:
        with pytest.raises(ssl.SSLError):
            with wrap(server, context):
                pass


def test_minimum_version_is_kept(certificates: Certificates) -> None:
    context = certificates.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    args = {
        'certfile': certificates.server.combined,
        'minimum_version': ssl.TLSVersion.TLSv1_3,
    }
    with EchoServer(ssl_args=args) as server:
        with pytest.raises(ssl.SSLError):
            with wrap(server, context):
                pass


def test_client_certificates_are_required(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(**tls(asks=True)) as server:
        # In TLS 1.3 a client hears of it only when it reads.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with wrap(server, certificates.client_context()) as sock:
                handshake(sock)
        context = certificates.client_context(certificates.stranger)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with wrap(server, context) as sock:
                handshake(sock)
        context = certificates.client_context(certificates.client)
        with wrap(server, context) as sock:
            peer = handshake(sock)
            (client,) = server.wait_for('open')
            certificate = client.sock.peer_certificate
            assert certificate is not None
            assert certificate.der == certificates.client.der
            assert ('email', 'client@example.org') in certificate.names
            close(peer)


def test_the_end_of_the_stream_is_no_surprise(
    tls: Options, certificates: Certificates
) -> None:
    """A client that goes without a Close frame, with close_notify."""
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            handshake(sock)
            sock.settimeout(SOON)
            sock.unwrap()
        _client, code, _reason = server.wait_for('close')
        assert code == 1006


def test_recv_in_a_handler_sees_the_end_behind_a_message(
    tls: Options, certificates: Certificates
) -> None:
    """close_notify comes in the record behind it, and no FIN after it."""

    class Reading(EchoServer):
        def onmessage(self, client: Any, message: Any) -> None:
            with pytest.raises(twspy.SocketClosed):
                client.recv(timeout=SOON)
            self.events.put(('read', client))

    with Reading(**tls()) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = certificates.client_context().wrap_bio(
            incoming, outgoing, server_hostname='localhost'
        )
        with socket.create_connection(server.address, timeout=SOON) as sock:
            finished = False
            while not finished:
                try:
                    side.do_handshake()
                    finished = True
                except ssl.SSLWantReadError:
                    pass
                sock.sendall(outgoing.read())
                if not finished:
                    incoming.write(sock.recv(65536))
            side.write(request())
            sock.sendall(outgoing.read())
            server.wait_for('open')
            side.write(pack(TEXT, b'the last word'))
            with pytest.raises(ssl.SSLWantReadError):
                side.unwrap()
            sock.sendall(outgoing.read())
            server.wait_for('read')


def test_a_client_that_vanishes(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            handshake(sock)
        _client, code, _reason = server.wait_for('close')
        assert code == 1006


def test_plain_http_is_told_so(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(**tls()) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(request())
            status, _head, body = peer.read_answer()
            assert status == 400
            assert 'TLS' in body
        with wrap(server, certificates.client_context()) as sock:
            handshake(sock).echo()


@pytest.mark.parametrize(
    'junk', [b'\0' * 100, b'\x16\x03\x01\xff\xff' + b'\1' * 300, b'\x80']
)
def test_junk_costs_nobody_else_anything(
    tls: Options, certificates: Certificates, junk: bytes
) -> None:
    with EchoServer(**tls()) as server:
        with RawPeer.open(server.address) as peer:
            peer.send(junk)
            with wrap(server, certificates.client_context()) as sock:
                handshake(sock).echo()


def test_silent_sockets_cost_nobody_else_anything(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(open_timeout=2.0, **tls()) as server:
        peers = [RawPeer.open(server.address) for _ in range(100)]
        before = threading.active_count()
        with wrap(server, certificates.client_context()) as sock:
            handshake(sock).echo()
        assert threading.active_count() <= before + 2
        begin = time.monotonic()
        for peer in peers:
            peer.expect_end()
            peer.close()
        assert time.monotonic() - begin < SOON
        with wrap(server, certificates.client_context()) as sock:
            handshake(sock).echo()


def test_handshakes_do_not_hold_up_clients(
    tls: Options, certificates: Certificates
) -> None:
    """Many TLS handshakes at once, and an echo beside them."""
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            peer = handshake(sock)

            def connect() -> None:
                for _ in range(15):
                    with wrap(server, certificates.client_context()):
                        pass

            joins = [in_thread(connect) for _ in range(4)]
            for _ in range(100):
                peer.echo()
            for join in joins:
                assert join() is None
            peer.echo()


def test_a_large_message_to_a_client_that_reads_slowly(
    tls: Options, certificates: Certificates
) -> None:
    with EchoServer(max_size=None, ping_interval=None, **tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            peer = handshake(sock)
            (client,) = server.wait_for('open')
            payload = os.urandom(8 << 20)
            send = in_thread(lambda: client.send(payload, timeout=SOON))
            time.sleep(0.3)
            frame = peer.read_frame()
            send()
            assert frame.payload == payload
            peer.echo()


def test_other_threads_send_while_it_is_read(
    tls: Options, certificates: Certificates
) -> None:
    """Encrypting and decrypting at the same time."""
    with EchoServer(**tls()) as server:
        with wrap(server, certificates.client_context()) as sock:
            peer = handshake(sock)
            (client,) = server.wait_for('open')

            def push(mark: bytes) -> None:
                for _ in range(200):
                    client.send(mark * 3000, timeout=SOON)

            joins = [
                in_thread(lambda mark=mark: push(mark))  # type: ignore[misc]
                for mark in (b'a', b'b', b'c')
            ]
            for _ in range(200):
                peer.send_frame(BINARY, b'e' * 3000)
            counts: dict[bytes, int] = {}
            for _ in range(800):
                payload = peer.read_frame().payload
                assert payload == payload[:1] * 3000
                counts[payload[:1]] = counts.get(payload[:1], 0) + 1
            for join in joins:
                assert join() is None
            assert counts == dict.fromkeys((b'a', b'b', b'c', b'e'), 200)


def test_sessions_are_resumed(certificates: Certificates) -> None:
    context = certificates.client_context()
    args = {'certfile': certificates.server.combined}
    with EchoServer(ssl_args=args) as server:
        with wrap(server, context) as sock:
            handshake(sock).echo()  # the tickets come with the first bytes
            session = sock.session
        with wrap(server, context, session=session) as sock:
            handshake(sock).echo()
            assert sock.session_reused


def certificate_of(sock: ssl.SSLSocket) -> bytes | None:
    return sock.getpeercert(binary_form=True)


def test_certificates_are_chosen_by_name(certificates: Certificates) -> None:
    args = {
        'certfile': certificates.server.combined,
        'certificates': {
            'second.example': (
                certificates.second.certfile,
                certificates.second.keyfile,
            ),
            '*.example.org': (
                certificates.wildcard.certfile,
                certificates.wildcard.keyfile,
            ),
        },
    }
    context = certificates.client_context()
    with EchoServer(ssl_args=args) as server:
        for name, expected in [
            ('localhost', certificates.server),
            ('second.example', certificates.second),
            ('www.example.org', certificates.wildcard),
        ]:
            with wrap(server, context, server_hostname=name) as sock:
                assert certificate_of(sock) == expected.der
                handshake(sock).echo()


@pytest.fixture
def replaceable(certificates: Certificates, tmp_path: Path) -> Path:
    """A PEM file that a test may replace."""
    path = tmp_path / 'server.pem'
    shutil.copy(certificates.server.combined, path)
    return path


def test_certificates_are_reloaded(
    certificates: Certificates, replaceable: Path
) -> None:
    context = certificates.client_context()
    with EchoServer(ssl_args={'certfile': replaceable}) as server:
        with wrap(server, context) as sock:
            peer = handshake(sock)
            assert certificate_of(sock) == certificates.server.der
            shutil.copy(certificates.chained.combined, replaceable)
            server.reload_certificates()
            peer.echo()  # what is open stays as it is
            with wrap(server, context) as other:
                assert certificate_of(other) == certificates.chained.der
                handshake(other).echo()


def test_a_failed_reload_changes_nothing(
    certificates: Certificates, replaceable: Path
) -> None:
    context = certificates.client_context()
    with EchoServer(ssl_args={'certfile': replaceable}) as server:
        replaceable.write_text('not a certificate')
        with pytest.raises(twspy.SSLError, match=r'server\.pem'):
            server.reload_certificates()
        replaceable.unlink()
        with pytest.raises(FileNotFoundError):
            server.reload_certificates()
        with wrap(server, context) as sock:
            assert certificate_of(sock) == certificates.server.der


def test_reload_needs_ssl_args(certificates: Certificates) -> None:
    with EchoServer() as server:
        with pytest.raises(RuntimeError, match='ssl_args'):
            server.reload_certificates()
    with EchoServer(ssl=certificates.server_context()) as server:
        with pytest.raises(RuntimeError, match='load_cert_chain'):
            server.reload_certificates()


@pytest.mark.parametrize(
    ('args', 'error', 'what'),
    [
        ({}, ValueError, 'certfile'),
        ({'certfile': '/nowhere.pem'}, OSError, 'nowhere'),
        ({'certfile': 'x', 'colour': 1}, TypeError, 'colour'),
        ({'certfile': 'x', 'verify': False}, TypeError, 'verify'),
        ('x', TypeError, 'mapping'),
    ],
)
def test_bad_ssl_args(args: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        twspy.Server(('127.0.0.1', 0), ssl_args=args)


def test_a_key_of_another_certificate(certificates: Certificates) -> None:
    with pytest.raises(twspy.SSLError, match='key'):
        twspy.Server(
            ('127.0.0.1', 0),
            ssl_args={
                'certfile': certificates.server.certfile,
                'keyfile': certificates.second.keyfile,
            },
        )


def test_an_encrypted_key(certificates: Certificates) -> None:
    locked = certificates.locked.combined
    with pytest.raises(twspy.SSLError, match='password'):
        twspy.Server(('127.0.0.1', 0), ssl_args={'certfile': locked})
    with pytest.raises(twspy.SSLError, match='password'):
        twspy.Server(
            ('127.0.0.1', 0),
            ssl_args={'certfile': locked, 'password': 'guess'},
        )
    for password in 'open, sesame', b'open, sesame', lambda: 'open, sesame':
        args = {'certfile': locked, 'password': password}
        with EchoServer(ssl_args=args) as server:
            with wrap(server, certificates.client_context()) as sock:
                handshake(sock).echo()


WORKERS = """
import signal, sys, twspy
server = twspy.Server(('127.0.0.1', 0), ssl_args={'certfile': sys.argv[1]})
signal.signal(
    signal.SIGHUP, lambda number, frame: server.reload_certificates()
)
print('port', server.address[1])
server.run(workers=2)
"""


def test_workers_reload_certificates(
    certificates: Certificates, replaceable: Path
) -> None:
    context = certificates.client_context()

    def fetch(port: int) -> bytes | None:
        with socket.create_connection(('127.0.0.1', port), SOON) as sock:
            with context.wrap_socket(
                sock, server_hostname='localhost'
            ) as tls_sock:
                return certificate_of(tls_sock)

    with Program(sys.executable, '-u', '-c', WORKERS, replaceable) as program:
        port = int(program.wait_for(r'port (\d+)')[1])
        for _ in range(2):
            program.wait_for('listening')
        assert fetch(port) == certificates.server.der
        shutil.copy(certificates.chained.combined, replaceable)
        program.send_signal(signal.SIGHUP)
        for _ in range(3):  # the parent, too
            program.wait_for('reloaded')
        for _ in range(10):  # of one worker and the other
            assert fetch(port) == certificates.chained.der
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


def test_accept_of_a_listening_websocket(
    tls: Options, certificates: Certificates
) -> None:
    with twspy.websocket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        options = tls()
        if 'ssl' in options:
            listener.enable_ssl(options['ssl'])
        else:
            listener.enable_ssl(**options['ssl_args'])
        listener.settimeout(SOON)

        def talk() -> None:
            with wrap(listener, certificates.client_context()) as sock:
                peer = handshake(sock)
                for size in 5, 70_000, 1_000_000:
                    peer.send_frame(BINARY, bytes(size))
                    assert peer.read_frame().payload == bytes(size)
                close(peer)

        join = in_thread(talk)
        client, address = listener.accept()
        assert client.secure
        assert client.version == 'TLSv1.3'
        assert client.getpeername() == address
        connection = twspy.Connection(client)
        with connection:
            for message in connection:
                connection.send(message)
        assert join() is None


def test_close_while_another_thread_receives_says_so_to_the_peer(
    certificates: Certificates,
) -> None:
    with twspy.websocket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        listener.enable_ssl(certfile=certificates.server.combined)
        listener.settimeout(SOON)

        def talk() -> None:
            with wrap(listener, certificates.client_context()) as sock:
                handshake(sock)
                assert sock.recv(1) == b''  # close_notify, or it raises

        join = in_thread(talk)
        client, _address = listener.accept()

        def receive() -> None:
            with pytest.raises(twspy.SocketClosed):
                client.recv()

        join_reader = in_thread(receive)
        wait_until_receiving(client)
        client.close()
        assert join_reader() is None
        assert join() is None


def test_handshake_on_a_connected_socket(
    tls: Options, certificates: Certificates
) -> None:
    ours, theirs = socket.socketpair()
    options = tls()
    sock = twspy.websocket(ours)
    if 'ssl' in options:
        sock.enable_ssl(options['ssl'])
    else:
        sock.enable_ssl(**options['ssl_args'])

    def talk() -> None:
        with certificates.client_context().wrap_socket(
            theirs, server_hostname='localhost'
        ) as tls_sock:
            handshake(tls_sock).echo()

    join = in_thread(talk)
    sock.settimeout(SOON)
    sock.handshake(server=True)
    with twspy.Connection(sock) as connection:
        connection.send(connection.recv())
        with pytest.raises(twspy.SocketClosed):
            connection.recv()
    assert join() is None
