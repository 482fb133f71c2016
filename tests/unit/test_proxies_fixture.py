"""The proxies that other tests use, by hand and on plain sockets."""

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxies import SOON, HttpProxy, Proxy, SocksProxy

Address = tuple[str, int]


class Echo:
    """Says hello, then whatever it is told; ends when it is told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address: Address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                with sock:
                    while data := sock.recv(65536):
                        if data == b'end':
                            break
                        sock.sendall(data)

    def close(self) -> None:
        # Where the proxy is gone, so is the connection that it serves.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@contextlib.contextmanager
def nobody_listens() -> Iterator[int]:
    """A port that nobody else gets, either."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        yield sock.getsockname()[1]


def ask(proxy: Proxy, data: bytes) -> socket.socket:
    sock = socket.create_connection(proxy.address, 10)
    sock.sendall(data)
    return sock


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b''
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, data
        data += part
    return data


def everything(sock: socket.socket) -> bytes:
    data = b''
    while part := sock.recv(65536):
        data += part
    return data


ESTABLISHED = b'HTTP/1.1 200 Connection established\r\n\r\n'


def connect(target: str, *fields: str) -> bytes:
    lines = [f'CONNECT {target} HTTP/1.1', f'Host: {target}', *fields]
    return '\r\n'.join([*lines, '', '']).encode()


def basic(text: str) -> str:
    return (
        'Proxy-Authorization: Basic '
        + base64.b64encode(text.encode()).decode()
    )


def check_echo(sock: socket.socket) -> None:
    sock.sendall(b'hello')
    assert exactly(sock, 5) == b'hello'


def test_http_tunnel(echo: Echo) -> None:
    with HttpProxy(names={'echo.test': echo.address}) as proxy:
        with ask(proxy, connect('echo.test:443', 'X-Y: z')) as sock:
            assert exactly(sock, len(ESTABLISHED)) == ESTABLISHED
            check_echo(sock)
            (tunnel,) = proxy.tunnels
            assert (tunnel.host, tunnel.port) == ('echo.test', 443)
            assert tunnel.form == 'name'
            assert tunnel.request_line == 'CONNECT echo.test:443 HTTP/1.1'
            assert tunnel.fields == {'host': 'echo.test:443', 'x-y': 'z'}
            assert tunnel.credentials is None
            assert tunnel.opened
            assert tunnel.early == b''
            assert tunnel.sent == tunnel.received == b'hello'
    host, port = proxy.address
    assert proxy.url == f'http://{host}:{port}'


def test_http_forms(echo: Echo) -> None:
    _, port = echo.address
    with HttpProxy(names={'::1': '127.0.0.1'}) as proxy:
        for target in ('127.0.0.1', '[::1]', 'localhost'):
            with ask(proxy, connect(f'{target}:{port}')) as sock:
                exactly(sock, len(ESTABLISHED))
                check_echo(sock)
                sock.sendall(b'end')
                assert everything(sock) == b''
        assert [tunnel.form for tunnel in proxy.tunnels] == [
            'ipv4',
            'ipv6',
            'name',
        ]
        assert proxy.tunnels[1].host == '::1'


def test_http_credentials(echo: Echo) -> None:
    options = {'username': 'u', 'password': 'p:ä'}
    names = {('echo.test', 1): echo.address}
    with HttpProxy(names=names, **options) as proxy:
        for fields in ([], [basic('u:p')], ['Proxy-Authorization: Basic !']):
            with ask(proxy, connect('echo.test:1', *fields)) as sock:
                text = everything(sock)
                assert text.startswith(b'HTTP/1.1 407 Proxy Auth')
                assert b'\r\nProxy-Authenticate: Basic realm="' in text
                assert text.endswith(b'\r\n\r\nthe test proxy says no')
        with ask(proxy, connect('echo.test:1', basic('u:p:ä'))) as sock:
            assert exactly(sock, len(ESTABLISHED)) == ESTABLISHED
            check_echo(sock)
        assert [tunnel.credentials for tunnel in proxy.tunnels] == [
            None,
            ('u', 'p'),
            None,
            ('u', 'p:ä'),
        ]
        assert [tunnel.opened for tunnel in proxy.tunnels] == [
            False,
            False,
            False,
            True,
        ]
        assert proxy.accepted == 4
        assert '//u:p:ä@127.0.0.1:' in proxy.url


def test_http_refusals() -> None:
    with nobody_listens() as port, HttpProxy() as proxy:
        for target in (f'127.0.0.1:{port}', 'nowhere.test:1'):
            with ask(proxy, connect(target)) as sock:
                assert everything(sock).startswith(b'HTTP/1.1 502 Bad Gat')
        with ask(proxy, b'GET / HTTP/1.1\r\n\r\n') as sock:
            assert everything(sock).startswith(b'HTTP/1.1 405 Method')
        with ask(proxy, b'CONN') as sock:
            sock.shutdown(socket.SHUT_WR)
            assert everything(sock) == b''
    with HttpProxy(answer=b'HTTP/1.1 403 No\r\n\r\n') as proxy:
        with ask(proxy, connect('localhost:1')) as sock:
            assert everything(sock) == b'HTTP/1.1 403 No\r\n\r\n'
        assert len(proxy.tunnels) == 1


def test_http_answers_may_be_odd(echo: Echo) -> None:
    options: dict[str, Any] = {'fields': b'Via: a\r\n', 'behind': b'!'}
    with HttpProxy(names={'echo.test': echo.address}, **options) as proxy:
        with ask(proxy, connect('echo.test:1') + b'early') as sock:
            head = b'HTTP/1.1 200 Connection established\r\nVia: a\r\n\r\n!'
            assert exactly(sock, len(head)) == head
            assert exactly(sock, 5) == b'early'
            assert proxy.tunnels[0].early == b'early'
            assert proxy.tunnels[0].sent == b'early'


def anonymous(protocol: int) -> ssl.SSLContext:
    """TLS without certificates."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers('aNULL:@SECLEVEL=0')
    return context


@pytest.mark.parametrize('kind', [HttpProxy, SocksProxy])
def test_proxy_reached_by_tls(kind: type[Proxy], echo: Echo) -> None:
    _, port = echo.address
    data = b'0123456789abcdef' * (1 << 16)
    with kind(tls=anonymous(ssl.PROTOCOL_TLS_SERVER)) as proxy:
        plain = socket.create_connection(proxy.address, 10)
        client = anonymous(ssl.PROTOCOL_TLS_CLIENT)
        with client.wrap_socket(plain) as sock:
            if kind is HttpProxy:
                sock.sendall(connect(f'127.0.0.1:{port}'))
                assert exactly(sock, len(ESTABLISHED)) == ESTABLISHED
                assert proxy.url.startswith('https://')
            else:
                socks_connect(sock, b'\x01\x7f\x00\x00\x01', port)
            # Much, and in both directions at once.
            for start in range(0, len(data), 1 << 18):
                part = data[start : start + (1 << 18)]
                sock.sendall(part)
                assert exactly(sock, len(part)) == part
            sock.sendall(b'end')
            assert sock.recv(1) == b''
        assert proxy.tunnels[0].sent == data[:4096]


def test_much_goes_both_ways_at_once(echo: Echo) -> None:
    data = b'0123456789abcdef' * (1 << 19)
    with HttpProxy(names={'echo.test': echo.address}) as proxy:
        with ask(proxy, connect('echo.test:1')) as sock:
            exactly(sock, len(ESTABLISHED))
            writer = threading.Thread(target=sock.sendall, args=(data,))
            writer.start()
            assert exactly(sock, len(data)) == data
            writer.join()


GREETING = b'\x05\x01\x00'
SUCCEEDED = b'\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34'


def socks_connect(
    sock: socket.socket,
    address: bytes,
    port: int,
    expected: bytes = SUCCEEDED,
) -> None:
    sock.sendall(GREETING)
    assert exactly(sock, 2) == b'\x05\x00'
    sock.sendall(b'\x05\x01\x00' + address + port.to_bytes(2, 'big'))
    assert exactly(sock, len(expected)) == expected


def test_socks_forms(echo: Echo) -> None:
    _, port = echo.address
    ipv6 = b'\x04' + bytes(15) + b'\x01'
    names: dict[str | Address, Address | str] = {
        '::1': '127.0.0.1',
        'echo.test': echo.address,
    }
    with SocksProxy(names=names) as proxy:
        for address in (b'\x01\x7f\x00\x00\x01', ipv6, b'\x03\x09echo.test'):
            with ask(proxy, b'') as sock:
                socks_connect(sock, address, port)
                check_echo(sock)
                sock.sendall(b'end')
                assert everything(sock) == b''
        assert [(t.form, t.host, t.port, t.sent) for t in proxy.tunnels] == [
            ('ipv4', '127.0.0.1', port, b'helloend'),
            ('ipv6', '::1', port, b'helloend'),
            ('name', 'echo.test', port, b'helloend'),
        ]
        assert proxy.url.startswith('socks5://127.0.0.1:')


@pytest.mark.parametrize(
    ('bound', 'expected'),
    [
        ('127.0.0.2', b'\x01\x7f\x00\x00\x02'),
        ('::1', b'\x04' + bytes(15) + b'\x01'),
        ('a.test', b'\x03\x06a.test'),
    ],
)
def test_socks_replies_differ_in_length(
    bound: str, expected: bytes, echo: Echo
) -> None:
    names = {'echo.test': echo.address}
    with SocksProxy(bound=bound, behind=b'!', names=names) as proxy:
        with ask(proxy, b'') as sock:
            reply = b'\x05\x00\x00' + expected + b'\x12\x34!'
            socks_connect(sock, b'\x03\x09echo.test', 1, reply)
            check_echo(sock)


def test_socks_credentials(echo: Echo) -> None:
    names = {'echo.test': echo.address}
    options = {'username': 'u', 'password': 'pass'}
    with SocksProxy(names=names, **options) as proxy:
        with ask(proxy, GREETING) as sock:
            assert everything(sock) == b'\x05\xff'
        with ask(proxy, b'\x05\x02\x00\x02') as sock:
            assert exactly(sock, 2) == b'\x05\x02'
            sock.sendall(b'\x01\x01u\x04nope')
            assert everything(sock) == b'\x01\x01'
        assert proxy.tunnels == []
        with ask(proxy, b'\x05\x02\x00\x02') as sock:
            assert exactly(sock, 2) == b'\x05\x02'
            sock.sendall(b'\x01\x01u\x04pass')
            assert exactly(sock, 2) == b'\x01\x00'
            sock.sendall(b'\x05\x01\x00\x03\x09echo.test\x00\x01')
            assert exactly(sock, 10) == SUCCEEDED
            check_echo(sock)
        (tunnel,) = proxy.tunnels
        assert tunnel.credentials == ('u', 'pass')


def test_socks_refusals() -> None:
    with nobody_listens() as port, SocksProxy() as proxy:
        with ask(proxy, b'') as sock:
            refusal = b'\x05\x05\x00\x01' + bytes(6)
            socks_connect(sock, b'\x01\x7f\x00\x00\x01', port, refusal)
            assert everything(sock) == b''
        with ask(proxy, b'') as sock:
            refusal = b'\x05\x04\x00\x01' + bytes(6)
            socks_connect(sock, b'\x03\x0cnowhere.test', 1, refusal)
        with ask(proxy, b'\x04\x01') as sock:
            sock.shutdown(socket.SHUT_WR)
            everything(sock)
    with SocksProxy(reply=2) as proxy:
        with ask(proxy, b'') as sock:
            refusal = b'\x05\x02\x00\x01' + bytes(6)
            socks_connect(sock, b'\x03\x01a', 1, refusal)
    with SocksProxy(answer=b'\x05\x00\x00\x09') as proxy:
        with ask(proxy, b'') as sock:
            socks_connect(sock, b'\x03\x01a', 1, b'\x05\x00\x00\x09')
            assert everything(sock) == b''


def test_tls_handshake_that_never_comes() -> None:
    with HttpProxy(tls=anonymous(ssl.PROTOCOL_TLS_SERVER)) as proxy:
        with ask(proxy, b'\x16\x03\x01'):
            while proxy.accepted == 0:
                time.sleep(0.01)
            start = time.monotonic()
            proxy.close()
            assert time.monotonic() - start < SOON


@pytest.mark.parametrize('kind', [HttpProxy, SocksProxy])
def test_nothing_is_left(kind: type[Proxy], echo: Echo) -> None:
    _, port = echo.address
    before = threading.active_count()
    with kind() as proxy:
        silent = ask(proxy, b'')
        open_one = ask(proxy, b'')
        if kind is HttpProxy:
            open_one.sendall(connect(f'127.0.0.1:{port}'))
            exactly(open_one, len(ESTABLISHED))
        else:
            socks_connect(open_one, b'\x01\x7f\x00\x00\x01', port)
        check_echo(open_one)
    assert threading.active_count() == before
    for sock in (silent, open_one):
        with sock:
            assert everything(sock) == b''
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, 10)
    proxy.close()


def test_connections_may_be_dropped(echo: Echo) -> None:
    with HttpProxy(names={'echo.test': echo.address}) as proxy:
        for _ in range(2):
            with ask(proxy, connect('echo.test:1')) as sock:
                exactly(sock, len(ESTABLISHED))
                check_echo(sock)
                proxy.drop()
                assert everything(sock) == b''
