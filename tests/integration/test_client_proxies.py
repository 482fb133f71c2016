"""connect() and reconnect() through proxies: which one, and what a proxy has
no say in."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from proxies import HttpProxy, SocksProxy
from rawservers import redirect, response, route, serving, welcome
from servers import EchoServer

import twspy


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the tests says must not matter."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv('REQUEST_METHOD', raising=False)


@pytest.mark.parametrize('variable', ['http_proxy', 'HTTP_PROXY', 'all_proxy'])
def test_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with (
        EchoServer() as server,
        HttpProxy(
            username='user',
            password='s3cret',
            names={'echo.test': server.address},
        ) as proxy,
    ):
        monkeypatch.setenv(variable, proxy.url)
        url = f'ws://echo.test:{server.address[1]}/'
        with twspy.connect(url) as connection:
            connection.send('hello')
            assert connection.recv(timeout=10).payload == 'hello'
        (tunnel,) = proxy.tunnels
    # RFC 6455 section 4.1: a tunnel for ws:, too.
    assert tunnel.request_line.startswith('CONNECT echo.test:')
    assert tunnel.credentials == ('user', 's3cret')
    assert b's3cret' not in tunnel.sent
    assert b'proxy-authorization' not in tunnel.sent.lower()


def test_socks_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        EchoServer() as server,
        SocksProxy(names={'echo.test': server.address}) as proxy,
    ):
        by = proxy.url.replace('socks5:', 'socks:')
        monkeypatch.setenv('ALL_PROXY', by)
        url = f'ws://echo.test:{server.address[1]}/'
        with twspy.connect(url) as connection:
            connection.send('hello')
            assert connection.recv(timeout=10).payload == 'hello'
        assert proxy.tunnels[0].form == 'name'


@pytest.mark.parametrize(
    'options', [{'proxy': None}, {'proxy': False}, {'no_proxy': '127.0.0.1'}]
)
def test_past_the_proxy(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    with EchoServer() as server, HttpProxy() as proxy:
        monkeypatch.setenv('http_proxy', proxy.url)
        host, port = server.address
        monkeypatch.setenv('no_proxy', options.pop('no_proxy', ''))
        with twspy.connect(f'ws://{host}:{port}/', **options):
            pass
        assert proxy.accepted == 0
        with twspy.connect(f'ws://{host}:{port}/', proxy=proxy.url):
            pass
        assert proxy.accepted == 1, 'what is given counts more'


def test_each_hop_has_its_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And credentials of the proxy go to no server."""
    with (
        serving(welcome) as last,
        serving(route({'/': redirect(f'{last.url}/x')})) as first,
        HttpProxy(
            username='user',
            password='s3cret',
            names={'first.test': ('127.0.0.1', first.port)},
        ) as proxy,
    ):
        monkeypatch.setenv('http_proxy', proxy.url)
        monkeypatch.setenv('no_proxy', '127.0.0.0/8')
        twspy.connect(f'ws://first.test:{first.port}/').sock.close()
        assert [tunnel.host for tunnel in proxy.tunnels] == ['first.test']
        assert last.targets == ['/x']
        for asked in first.requests + last.requests:
            assert 's3cret' not in str(asked)
            assert 'proxy-authorization' not in asked.head


@pytest.mark.parametrize('status', [301, 302, 307])
def test_a_proxy_redirects_nobody(status: int) -> None:
    """Whoever sits on the way could lead a client anywhere."""
    with serving(welcome) as elsewhere:
        answer = redirect(f'{elsewhere.url}/', status)
        with HttpProxy(answer=answer) as proxy:
            for url in 'ws://server.test/', 'wss://server.test/':
                with pytest.raises(twspy.HandshakeError) as caught:
                    twspy.connect(url, proxy=proxy.url)
                assert caught.value.by_proxy
                assert caught.value.status == status
                assert 'Location' in caught.value.headers
                assert 'proxy' in str(caught.value)
        assert elsewhere.requests == []


def test_a_proxy_does_not_get_what_is_for_the_server() -> None:
    challenge = response(401, WWW_Authenticate='Basic realm="x"')
    with HttpProxy(answer=challenge) as proxy:
        with pytest.raises(twspy.HandshakeError, match='401') as caught:
            twspy.connect(
                'ws://server.test/', proxy=proxy.url, auth=('user', 's3cret')
            )
        assert caught.value.by_proxy
        assert proxy.accepted == 1, 'it is not asked again'
        assert 'authorization' not in proxy.tunnels[0].fields


def test_credentials_of_both_go_where_they_belong() -> None:
    def check(username: str, password: str) -> bool:
        return (username, password) == ('user', 's3cret')

    with (
        EchoServer(auth=twspy.BasicAuth(check, realm='x')) as server,
        HttpProxy(username='way', password='farer') as proxy,
    ):
        port = server.address[1]
        with twspy.connect(
            f'ws://user:s3cret@127.0.0.1:{port}/', proxy=proxy.url
        ) as connection:
            connection.send('hello')
            assert connection.recv(timeout=10).payload == 'hello'
        for tunnel in proxy.tunnels:
            assert tunnel.credentials == ('way', 'farer')
            assert 'authorization' not in tunnel.fields
            assert b'proxy-authorization' not in tunnel.sent.lower()


@pytest.mark.parametrize('kind', [HttpProxy, SocksProxy])
def test_a_refusal_is_the_proxys(kind: Any) -> None:
    with kind(username='user', password='s3cret') as proxy:
        wrong = proxy.url.replace('s3cret', 'guess')
        for by in wrong, proxy.url.replace('user:s3cret@', ''):
            with pytest.raises(twspy.HandshakeError) as caught:
                twspy.connect('ws://127.0.0.1:1/', proxy=by)
            assert caught.value.by_proxy
            assert caught.value.status == (407 if kind is HttpProxy else None)
            assert 'guess' not in str(caught.value)
    with serving(lambda peer, asked: peer.send(response(403))) as server:
        with kind() as proxy:
            with pytest.raises(twspy.HandshakeError, match='403') as caught:
                twspy.connect(server.url, proxy=proxy.url)
    assert not caught.value.by_proxy


def test_reconnect_through_a_proxy_that_can_not_reach_the_server() -> None:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
        with HttpProxy() as proxy:
            connections = twspy.reconnect(
                f'ws://127.0.0.1:{port}/',
                proxy=proxy.url,
                attempts=3,
                initial_delay=0.01,
            )
            with pytest.raises(twspy.HandshakeError, match='502') as caught:
                next(connections)
            assert caught.value.by_proxy
            assert proxy.accepted == 3
