"""wss: clients, with TLS of our own (native) and by way of an ssl.SSLContext,
against servers of Python's ssl module and our own."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from certificates import Certificates, Identity
from proxies import HttpProxy, SocksProxy
from rawends import answer, in_thread, read_request
from rawpeer import RawPeer
from rawservers import redirect, say, serving
from servers import SOON, EchoServer
from websockets.sync.server import ServerConnection, serve

import twspy
from twspy import _tls

Options = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the tests says must not matter."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=['native', 'context'])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Options:
    """Options of a client that trusts the tests' authority."""

    def options(identity: Identity | None = None) -> dict[str, Any]:
        if request.param == 'context':
            return {'ssl': certificates.client_context(identity)}
        args: dict[str, Any] = {'cafile': certificates.cafile}
        if identity is not None:
            args |= {
                'certfile': identity.certfile,
                'keyfile': identity.keyfile,
            }
        return {'ssl_args': args}

    return options


@contextmanager
def echoing(context: ssl.SSLContext) -> Iterator[int]:
    """A server of another library; its port."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, '127.0.0.1', 0, ssl=context, max_size=2 << 20) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(SOON)


def test_echo_with_another_library(
    tls: Options, certificates: Certificates
) -> None:
    with echoing(certificates.server_context()) as port:
        url = f'wss://localhost:{port}/'
        with twspy.connect(url, max_size=None, **tls()) as connection:
            assert connection.sock.secure
            assert connection.sock.version == 'TLSv1.3'
            assert connection.remote_address[:2] == ('127.0.0.1', port)
            for size in 0, 1, 125, 16384, 70_000, 1 << 20:
                payload = os.urandom(size)
                connection.send(payload)
                assert connection.recv(timeout=SOON).payload == payload
            connection.send('Grüße, 世界')
            assert connection.recv(timeout=SOON).payload == 'Grüße, 世界'
            certificate = connection.sock.peer_certificate
            assert certificate is not None
            assert certificate.der == certificates.server.der
            assert ('DNS', 'localhost') in certificate.names


def test_echo_with_our_own_server(
    tls: Options, certificates: Certificates
) -> None:
    args = {'certfile': certificates.server.combined}
    with EchoServer(ssl_args=args) as server:
        port = server.address[1]
        for host in 'localhost', '127.0.0.1':
            with twspy.connect(f'wss://{host}:{port}/', **tls()) as connection:
                connection.send('hello')
                assert connection.recv(timeout=SOON).payload == 'hello'
            _client, code, _reason = server.wait_for('close')
            assert code == 1000


def test_threads_send_while_one_receives(
    tls: Options, certificates: Certificates
) -> None:
    args = {'certfile': certificates.server.combined}
    with EchoServer(ssl_args=args) as server:
        url = f'wss://localhost:{server.address[1]}/'
        with twspy.connect(url, **tls()) as connection:

            def send(mark: str) -> None:
                for _ in range(200):
                    connection.send(mark * 5000)

            joins = [
                in_thread(lambda mark=mark: send(mark))  # type: ignore[misc]
                for mark in 'abcd'
            ]
            counts = dict.fromkeys('abcd', 0)
            for _ in range(800):
                payload = connection.recv(timeout=SOON).payload
                assert payload == payload[0] * 5000
                counts[payload[0]] += 1
            for join in joins:
                assert join() is None
            assert set(counts.values()) == {200}


@pytest.mark.parametrize(
    ('name', 'host', 'what'),
    [
        ('stranger', 'localhost', 'certificate'),
        ('expired', 'localhost', 'expired'),
        ('wrong_host', 'localhost', 'wrong.example|localhost'),
        ('second', '127.0.0.1', 'second.example|127.0.0.1'),
    ],
)
def test_bad_certificates_are_refused(
    tls: Options, certificates: Certificates, name: str, host: str, what: str
) -> None:
    context = certificates.server_context(getattr(certificates, name))
    with echoing(context) as port:
        with pytest.raises(twspy.SSLError, match=what) as caught:
            twspy.connect(f'wss://{host}:{port}/', **tls())
        assert host in str(caught.value)
        assert str(caught.value).isprintable()


def test_another_name_is_expected(
    certificates: Certificates,
) -> None:
    context = certificates.server_context(certificates.second)
    with echoing(context) as port:
        args = {
            'cafile': certificates.cafile,
            'server_hostname': 'second.example',
        }
        url = f'wss://127.0.0.1:{port}/'
        with twspy.connect(url, ssl_args=args) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'


def test_no_verification_where_it_is_switched_off(
    certificates: Certificates,
) -> None:
    context = certificates.server_context(certificates.stranger)
    with echoing(context) as port:
        url = f'wss://127.0.0.1:{port}/'
        with twspy.connect(url, ssl_args={'verify': False}) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'


def test_the_systems_authorities_are_the_default(
    certificates: Certificates,
) -> None:
    with echoing(certificates.server_context()) as port:
        with pytest.raises(twspy.SSLError, match='localhost'):
            twspy.connect(f'wss://localhost:{port}/')


def test_client_certificates(tls: Options, certificates: Certificates) -> None:
    with echoing(certificates.server_context(asks=True)) as port:
        url = f'wss://localhost:{port}/'
        with twspy.connect(url, **tls(certificates.client)) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'
        # A reset may overtake the alert, as the server leaves our request.
        with pytest.raises((twspy.SSLError, ConnectionError)):
            twspy.connect(url, **tls())


def test_a_server_without_tls(tls: Options) -> None:
    with EchoServer() as server:
        with pytest.raises((twspy.SSLError, twspy.HandshakeError)) as caught:
            twspy.connect(f'wss://localhost:{server.address[1]}/', **tls())
        assert 'localhost' in str(caught.value)


def test_a_server_that_goes_amid_the_tls_handshake(tls: Options) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)

        join = in_thread(accept)
        with pytest.raises((twspy.SSLError, twspy.HandshakeError, OSError)):
            twspy.connect(
                f'wss://localhost:{listener.getsockname()[1]}/', **tls()
            )
        assert join() is None


def test_a_silent_server_costs_open_timeout(tls: Options) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            twspy.connect(
                f'wss://localhost:{listener.getsockname()[1]}/',
                open_timeout=0.5,
                **tls(),
            )
        assert 0.4 < time.monotonic() - begin < 5


def test_never_from_wss_to_ws(
    tls: Options, certificates: Certificates
) -> None:
    context = certificates.server_context()
    with (
        serving(say(b'')) as plain,
        socket.create_server(('127.0.0.1', 0)) as listener,
    ):

        def accept() -> None:
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as served:
                served.recv(4096)
                served.sendall(redirect(plain.url + '/'))

        join = in_thread(accept)
        with pytest.raises(twspy.HandshakeError, match='encrypted'):
            twspy.connect(
                f'wss://localhost:{listener.getsockname()[1]}/', **tls()
            )
        assert join() is None
        assert plain.requests == []


def test_a_redirect_from_ws_to_wss(
    tls: Options, certificates: Certificates
) -> None:
    args = {'certfile': certificates.server.combined}
    with EchoServer(ssl_args=args) as server:
        url = f'https://localhost:{server.address[1]}/'
        with serving(say(redirect(url))) as plain:
            with twspy.connect(plain.url, **tls()) as connection:
                assert connection.sock.secure
                connection.send('x')
                assert connection.recv(timeout=SOON).payload == 'x'


def test_sessions_are_resumed_and_contexts_shared(
    certificates: Certificates,
) -> None:
    context = certificates.server_context()
    reused: list[bool] = []
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def accept() -> None:
            for _ in range(3):
                sock, _ = listener.accept()
                with context.wrap_socket(sock, server_side=True) as served:
                    reused.append(bool(served.session_reused))
                    served.recv(4096)
                    served.sendall(b'HTTP/1.1 503 No\r\n\r\n')

        join = in_thread(accept)
        for _ in range(3):
            # A mapping of its own, with equal values.
            args = {'cafile': str(certificates.cafile)}
            with pytest.raises(twspy.HandshakeError, match='503'):
                twspy.connect(
                    f'wss://localhost:{listener.getsockname()[1]}/',
                    ssl_args=args,
                )
        assert join() is None
    assert reused == [False, True, True]


def test_the_end_is_a_proper_one(
    tls: Options, certificates: Certificates
) -> None:
    """The server meets close_notify, also where no closing handshake was."""
    context = certificates.server_context()
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def accept() -> bytes:
            sock, _ = listener.accept()
            with context.wrap_socket(
                sock, server_side=True, suppress_ragged_eofs=False
            ) as served:
                peer = RawPeer(served)
                _first, head = read_request(peer)
                peer.send(answer(head))
                return served.recv(100)

        join = in_thread(accept)
        sock = twspy.websocket()
        options = tls()
        name = 'localhost'
        if 'ssl' in options:
            sock.enable_ssl(options['ssl'], server_hostname=name)
        else:
            sock.enable_ssl(**options['ssl_args'], server_hostname=name)
        sock.connect(listener.getsockname())
        sock.close()
        assert join() == b''


def test_through_an_http_proxy(
    tls: Options, certificates: Certificates
) -> None:
    args = {'certfile': certificates.server.combined}
    with (
        EchoServer(ssl_args=args) as server,
        HttpProxy(
            username='u',
            password='p',
            names={'localhost': ('127.0.0.1', server.address[1])},
        ) as proxy,
    ):
        url = f'wss://localhost:{server.address[1]}/'
        with twspy.connect(url, proxy=proxy.url, **tls()) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'
        (tunnel,) = proxy.tunnels
        assert (tunnel.host, tunnel.form) == ('localhost', 'name')
        assert tunnel.sent[:2] == b'\x16\x03'  # a record of TLS
        wrong = proxy.url.replace('u:p@', 'u:guess@')
        with pytest.raises(twspy.HandshakeError, match='407') as caught:
            twspy.connect(url, proxy=wrong, **tls())
        assert 'guess' not in str(caught.value)


@pytest.mark.parametrize('scheme', ['socks5', 'socks5h'])
def test_through_a_socks_proxy(
    tls: Options, certificates: Certificates, scheme: str
) -> None:
    args = {'certfile': certificates.server.combined}
    with (
        EchoServer(ssl_args=args) as server,
        SocksProxy(
            username='u',
            password='p',
            names={'localhost': ('127.0.0.1', server.address[1])},
        ) as proxy,
    ):
        by = scheme + '://' + proxy.url.split('://')[1]
        url = f'wss://localhost:{server.address[1]}/'
        with twspy.connect(url, proxy=by, **tls()) as connection:
            connection.send('x')
            assert connection.recv(timeout=SOON).payload == 'x'
        tunnel = proxy.tunnels[-1]
        assert (tunnel.form == 'name') == (scheme == 'socks5h')
        assert tunnel.sent[:2] == b'\x16\x03'


def test_through_a_proxy_that_speaks_tls(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS within TLS. The proxy is checked with the system's authorities."""
    monkeypatch.setenv('SSL_CERT_FILE', str(certificates.cafile))
    monkeypatch.setattr(_tls, '_contexts', _tls._Contexts())
    args = {'certfile': certificates.server.combined}
    with (
        EchoServer(ssl_args=args) as server,
        HttpProxy(
            tls=certificates.server_context(),
            names={'localhost': ('127.0.0.1', server.address[1])},
        ) as proxy,
    ):
        by = f'https://localhost:{proxy.address[1]}'
        url = f'wss://localhost:{server.address[1]}/'
        with twspy.connect(
            url, proxy=by, ssl_args={'cafile': certificates.cafile}
        ) as connection:
            for size in 1, 100_000:
                connection.send(bytes(size))
                assert connection.recv(timeout=SOON).payload == bytes(size)
        assert proxy.tunnels[0].sent[:2] == b'\x16\x03'


def test_plain_through_each_proxy() -> None:
    with EchoServer() as server:
        names = {'echo.test': server.address}
        for kind in HttpProxy, SocksProxy:
            with kind(names=names) as proxy:
                by = proxy.url.replace('socks5:', 'socks5h:')
                with twspy.connect(
                    f'ws://echo.test:{server.address[1]}/', proxy=by
                ) as connection:
                    connection.send('x')
                    assert connection.recv(timeout=SOON).payload == 'x'
                assert proxy.tunnels[0].host == 'echo.test'


def test_a_dead_proxy_is_named(tls: Options) -> None:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            twspy.connect(
                'wss://localhost/', proxy=f'http://127.0.0.1:{port}', **tls()
            )


@pytest.mark.parametrize(
    ('options', 'error', 'what'),
    [
        ({'ssl_args': {'colour': 1}}, TypeError, 'colour'),
        ({'ssl_args': {'require_client_cert': True}}, TypeError, 'require'),
        ({'ssl_args': {'cafile': '/nowhere.pem'}}, OSError, 'nowhere'),
        ({'ssl': 'context'}, TypeError, 'SSLContext'),
    ],
)
def test_bad_options(
    options: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        twspy.connect('wss://localhost:1/', **options)
