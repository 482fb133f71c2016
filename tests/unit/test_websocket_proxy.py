"""websocket.connect(proxy=...): through proxies of HTTP and SOCKS 5."""

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certificates import Certificates
from listeners import tls_server
from ports import refusing_port
from proxies import HttpProxy, Proxy, SocksProxy
from rawservers import RawServer, serving, welcome
from tlsends import bridge_thread, wait_until

import twspy
from twspy import HandshakeError
from twspy._tls import _Contexts

SCHEMES = ['http', 'socks5', 'socks5h']
Family = socket.AddressFamily


@pytest.fixture(scope='module', autouse=True)
def bridge_at_rest() -> Iterator[None]:
    """The thread of bridges has ended, and with it its own sockets."""
    yield
    wait_until(lambda: bridge_thread() is None)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with serving(welcome) as made:
        yield made


def make_proxy(scheme: str, **options: Any) -> Proxy:
    kind = HttpProxy if scheme.startswith('http') else SocksProxy
    return kind(**options)


def connect(
    scheme: str,
    proxy: Proxy,
    address: tuple[str, int],
    sock: twspy.websocket | None = None,
    credentials: tuple[str | None, str | None] = (None, None),
) -> twspy.websocket:
    """The websocket, which is closed where that fails."""
    if sock is None:
        sock = twspy.websocket(family=socket.AF_UNSPEC)
    try:
        sock.connect(address, proxy=(scheme, *proxy.address, *credentials))
    except BaseException:
        sock.close()
        raise
    return sock


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- tunnels ---


@pytest.mark.parametrize('family', [socket.AF_UNSPEC, socket.AF_INET])
def test_tunnel(server: RawServer, scheme: str, family: int) -> None:
    with make_proxy(scheme) as proxy:
        sock = twspy.websocket(family=family)
        with connect(scheme, proxy, ('127.0.0.1', server.port), sock):
            assert sock.response.status == 101
            assert sock.getpeername() == proxy.address
            assert sock.family == socket.AF_INET
        (tunnel,) = proxy.tunnels
        assert (tunnel.host, tunnel.port) == ('127.0.0.1', server.port)
        assert tunnel.form == 'ipv4'
        assert tunnel.credentials is None
        assert tunnel.early == b''
    (asked,) = server.requests
    assert asked.head['host'] == f'127.0.0.1:{server.port}'


def test_who_looks_the_name_up(server: RawServer, scheme: str) -> None:
    """The proxy, but for socks5:."""
    with make_proxy(scheme) as proxy:
        with connect(scheme, proxy, ('localhost', server.port)):
            pass
        (tunnel,) = proxy.tunnels
        if scheme == 'socks5':
            assert (tunnel.host, tunnel.form) == ('127.0.0.1', 'ipv4')
        else:
            assert (tunnel.host, tunnel.form) == ('localhost', 'name')
    (asked,) = server.requests
    assert asked.head['host'] == f'localhost:{server.port}'


@pytest.mark.parametrize('scheme', ['http', 'socks5h'])
def test_name_that_only_the_proxy_knows(
    server: RawServer, scheme: str
) -> None:
    names: dict[Any, Any] = {('echo.test', 80): ('127.0.0.1', server.port)}
    with make_proxy(scheme, names=names) as proxy:
        with connect(scheme, proxy, ('echo.test', 80)):
            pass
    (asked,) = server.requests
    assert asked.head['host'] == 'echo.test'  # 80 goes without saying


@pytest.mark.parametrize('agent', ['test/1', None])
def test_user_agent(server: RawServer, agent: str | None) -> None:
    """That of the request."""
    headers = [] if agent is None else [('user-AGENT', agent)]
    with HttpProxy() as proxy:
        with connect(
            'http',
            proxy,
            ('127.0.0.1', server.port),
            twspy.websocket(headers=headers),
        ):
            pass
        (tunnel,) = proxy.tunnels
        assert tunnel.fields.get('user-agent') == agent
    (asked,) = server.requests
    assert asked.head.get('user-agent') == agent


def test_name_that_we_do_not_know() -> None:
    with SocksProxy() as proxy:
        with pytest.raises(socket.gaierror, match='no-such-host'):
            connect('socks5', proxy, ('no-such-host.invalid', 80))
        assert proxy.accepted == 0


def test_credentials(server: RawServer, scheme: str) -> None:
    with make_proxy(scheme, username='Aladdin', password='é:@/') as proxy:
        address = '127.0.0.1', server.port
        with connect(
            scheme, proxy, address, credentials=('Aladdin', 'é:@/')
        ) as sock:
            assert sock.response.status == 101
        assert proxy.tunnels[0].credentials == ('Aladdin', 'é:@/')
        for credentials in [('Aladdin', 'sesame'), (None, None)]:
            with pytest.raises(HandshakeError, match='proxy') as caught:
                connect(scheme, proxy, address, credentials=credentials)
            assert 'sesame' not in repr(caught.value)
            if scheme == 'http':
                assert caught.value.status == 407
                assert (
                    caught.value.headers['proxy-authenticate']
                    == 'Basic realm="test"'
                )
                assert caught.value.body == b'the test proxy says no'
            else:
                assert caught.value.status is None
    assert len(server.requests) == 1


def test_password_of_the_server_is_none_of_the_proxy(
    server: RawServer,
) -> None:
    """Whatever it asks for."""
    answer = (
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n'
        b'Content-Length: 0\r\n\r\n'
    )
    with HttpProxy(answer=answer) as proxy:
        sock = twspy.websocket(auth=('Aladdin', 'sesame'))
        with pytest.raises(HandshakeError) as caught:
            connect('http', proxy, ('127.0.0.1', server.port), sock)
        assert caught.value.status == 401
        assert proxy.accepted == 1
        assert 'authorization' not in proxy.tunnels[0].fields


def test_server_that_the_proxy_can_not_reach(scheme: str) -> None:
    with refusing_port() as port, make_proxy(scheme) as proxy:
        with pytest.raises(HandshakeError, match='proxy') as caught:
            connect(scheme, proxy, ('127.0.0.1', port))
    if scheme == 'http':
        assert caught.value.status == 502
        assert b'refused' in caught.value.body


def test_proxy_that_is_not_there() -> None:
    with (
        refusing_port() as port,
        twspy.websocket(family=socket.AF_UNSPEC) as sock,
    ):
        with pytest.raises(ConnectionRefusedError) as caught:
            sock.connect(
                ('server.test', 80),
                proxy=('http', '127.0.0.1', port, None, None),
            )
        assert caught.value.strerror == (
            f'connect to proxy 127.0.0.1:{port} failed: Connection refused '
            '(127.0.0.1)'
        )
        with pytest.raises(socket.gaierror, match='proxy no-such-proxy'):
            sock.connect(
                ('server.test', 80),
                proxy=('http', 'no-such-proxy.invalid', 80, None, None),
            )


def test_refusal_of_the_server_behind(scheme: str) -> None:
    def refuse(peer: Any, asked: Any) -> None:
        peer.send(b'HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nbody')

    with serving(refuse) as server, make_proxy(scheme) as proxy:
        with pytest.raises(HandshakeError) as caught:
            connect(scheme, proxy, ('127.0.0.1', server.port))
        assert (caught.value.status, caught.value.body) == (404, b'body')
        assert 'proxy' not in str(caught.value)


# --- TLS ---


@pytest.fixture
def trusted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform trusts our authority."""
    monkeypatch.setenv('SSL_CERT_FILE', str(certificates.cafile))
    monkeypatch.setattr('twspy._tls._contexts', _Contexts())


Encrypt = Callable[[twspy.websocket], object]


@pytest.fixture(params=['native', 'context'])
def encrypt(
    request: pytest.FixtureRequest, certificates: Certificates
) -> Encrypt:
    if request.param == 'native':
        return lambda sock: sock.enable_ssl(cafile=certificates.cafile)
    context = certificates.client_context()
    return lambda sock: sock.enable_ssl(context=context)


def test_tls_through_a_tunnel(
    certificates: Certificates, scheme: str, encrypt: Encrypt
) -> None:
    with tls_server(certificates.server_context()) as address:
        with make_proxy(scheme) as proxy:
            sock = twspy.websocket(family=socket.AF_UNSPEC)
            encrypt(sock)
            with connect(scheme, proxy, ('localhost', address[1]), sock):
                assert sock.secure
                assert sock.response.status == 101
            (tunnel,) = proxy.tunnels
            assert tunnel.sent[:1] == b'\x16'  # a handshake of TLS


def test_default_port_of_wss(certificates: Certificates) -> None:
    heads = []
    with tls_server(
        certificates.server_context(),
        lambda peer, head: heads.append(head),
    ) as address:
        with HttpProxy(names={'localhost': address}) as proxy:
            sock = twspy.websocket(open_timeout=0.5)
            sock.enable_ssl(cafile=certificates.cafile)
            with pytest.raises(TimeoutError):
                connect('http', proxy, ('localhost', 443), sock)
    assert heads[0]['host'] == 'localhost'


@pytest.mark.usefixtures('trusted')
def test_proxy_over_tls(certificates: Certificates, server: RawServer) -> None:
    with HttpProxy(tls=certificates.server_context()) as proxy:
        with connect('https', proxy, ('127.0.0.1', server.port)) as sock:
            assert not sock.secure
            assert sock.response.status == 101
        (tunnel,) = proxy.tunnels
        assert tunnel.fields['host'] == f'127.0.0.1:{server.port}'


@pytest.mark.usefixtures('trusted')
def test_tls_in_tls(certificates: Certificates) -> None:
    with tls_server(certificates.server_context()) as address:
        with HttpProxy(tls=certificates.server_context()) as proxy:
            sock = twspy.websocket(family=socket.AF_UNSPEC)
            sock.enable_ssl(cafile=certificates.cafile)
            with connect('https', proxy, ('localhost', address[1]), sock):
                assert sock.secure
                assert sock.peer_certificate is not None
            (tunnel,) = proxy.tunnels
            assert tunnel.sent[:1] == b'\x16'


def test_proxy_that_nobody_trusts(
    certificates: Certificates, server: RawServer
) -> None:
    with HttpProxy(tls=certificates.server_context()) as proxy:
        with pytest.raises(twspy.SSLError) as caught:
            connect('https', proxy, ('127.0.0.1', server.port))
        host, port = proxy.address
        assert str(caught.value).startswith(
            f'TLS handshake with proxy {host}:{port} failed: certificate'
        )
        assert proxy.tunnels == []


@pytest.mark.usefixtures('trusted')
def test_proxy_with_the_certificate_of_somebody_else(
    certificates: Certificates, server: RawServer
) -> None:
    context = certificates.server_context(certificates.wrong_host)
    with HttpProxy(tls=context) as proxy:
        with pytest.raises(twspy.SSLError, match='certificate is for'):
            connect('https', proxy, ('127.0.0.1', server.port))


def test_context_does_not_work_through_an_https_proxy() -> None:
    with twspy.websocket(family=socket.AF_UNSPEC) as sock:
        sock.enable_ssl(context=ssl.create_default_context())
        with pytest.raises(ValueError, match='https proxy'):
            sock.connect(
                ('localhost', 443),
                proxy=('https', '127.0.0.1', 1, None, None),
            )


# --- arguments ---


@pytest.mark.parametrize(
    ('proxy', 'error'),
    [
        ('http://u:sesame@127.0.0.1', TypeError),
        (('http', '127.0.0.1', 1), TypeError),
        (('http://u:sesame@', '127.0.0.1', 1, None, None), ValueError),
        ((b'http', '127.0.0.1', 1, None, None), ValueError),
        (('http', None, 1, None, 'sesame'), TypeError),
        (('http', '127.0.0.1', '1', None, 'sesame'), TypeError),
        (('http', '127.0.0.1', 65536, None, 'sesame'), OverflowError),
        (('http', '127.0.0.1', 1, 'user', b'sesame'), TypeError),
        (('http', '127.0.0.1', 1, 'user', 'sesame\0'), ValueError),
        (('http', '127.0.0.1', 1, 'user', 'sesame\ud800'), ValueError),
        (('http', '127.0.0.1', 1, 'us:er', 'sesame'), ValueError),
        (('socks5', '127.0.0.1', 1, 'user', 'sesame' * 50), ValueError),
    ],
)
def test_bad_proxy(proxy: Any, error: type[Exception]) -> None:
    """What is wrong with it is told without the password."""
    with twspy.websocket(family=socket.AF_UNSPEC) as sock:
        with pytest.raises(error) as caught:
            sock.connect(('server.test', 80), proxy=proxy)
        assert type(caught.value) is error
        assert 'sesame' not in repr(caught.value)
        assert caught.value.__context__ is None


def test_proxy_is_not_for_unix_sockets() -> None:
    with twspy.websocket(family=socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match='AF_UNIX'):
            sock.connect('/none', proxy=('http', '127.0.0.1', 1, None, None))


def test_proxy_needs_a_host() -> None:
    with twspy.websocket(family=socket.AF_UNSPEC) as sock:
        with pytest.raises(ValueError, match='host'):
            sock.connect(('', 80), proxy=('http', '127.0.0.1', 1, None, None))
