"""A client's TLS: enable_ssl() before connect() or handshake(), with TLS of
our own (native) and by way of an ssl.SSLContext."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certificates import Certificates
from listeners import accept, tls_server
from rawends import answer
from rawpeer import TEXT, RawPeer, pack
from tlsends import bridge_thread, wait_until

import twspy
from twspy import Frame, SSLError

Enable = Callable[..., twspy.websocket]


@pytest.fixture(scope='module', autouse=True)
def bridge_at_rest() -> Iterator[None]:
    """The thread of bridges has ended, and with it its own sockets."""
    yield
    wait_until(lambda: bridge_thread() is None)


@pytest.fixture(params=['native', 'context'])
def enable(
    request: pytest.FixtureRequest, certificates: Certificates
) -> Enable:
    """Makes a websocket that trusts our authority; `family` and the like are
    its own options."""

    def make(
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> twspy.websocket:
        made = twspy.websocket(sock, **options)
        args: dict[str, Any] = {}
        if server_hostname is not None:
            args['server_hostname'] = server_hostname
        if request.param == 'native':
            made.enable_ssl(cafile=certificates.cafile, **args)
        else:
            made.enable_ssl(context=certificates.client_context(), **args)
        return made

    return make


@pytest.fixture(params=[socket.AF_UNSPEC, socket.AF_INET], ids=['any', 'one'])
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_frames(
    certificates: Certificates, enable: Enable, family: int
) -> None:
    """Also those that come with the answer, in one record."""
    heads = []

    def react(peer: RawPeer, head: dict[str, str]) -> None:
        heads.append(head)
        peer.send(answer(head) + pack(TEXT, b'early', mask=False) * 3)
        frame = peer.read_frame()
        peer.send(pack(TEXT, frame.payload, mask=False))

    with tls_server(certificates.server_context(), react) as address:
        with enable(family=family) as sock:
            sock.settimeout(10)
            sock.connect(('localhost', address[1]))
            assert sock.secure
            assert sock.version in {'TLSv1.2', 'TLSv1.3'}
            assert sock.family == socket.AF_INET
            assert sock.gettimeout() == 10
            assert sock.getpeername() == address
            frames = sock.recvn(3)
            assert [frame.payload for frame in frames] == [b'early'] * 3
            payload = bytes(range(256)) * 1000
            sock.send(Frame(TEXT, payload))
            assert sock.recv().payload == payload
    assert heads[0]['host'] == f'localhost:{address[1]}'


def test_answer_in_many_records(
    certificates: Certificates, enable: Enable
) -> None:
    def react(peer: RawPeer, head: dict[str, str]) -> None:
        wire = b'HTTP/1.1 103 Early Hints\r\n\r\n' + answer(head)
        for i in range(len(wire)):
            peer.send(wire[i : i + 1])
        peer.send(pack(TEXT, b'x', mask=False))

    with tls_server(certificates.server_context(), react) as address:
        with enable() as sock:
            sock.connect(('localhost', address[1]))
            assert sock.recv().payload == b'x'


def test_refusal(certificates: Certificates, enable: Enable) -> None:
    def react(peer: RawPeer, head: dict[str, str]) -> None:
        peer.send(b'HTTP/1.1 401 No\r\nContent-Length: 20000\r\n\r\n')
        peer.send(b'x' * 20000)

    with tls_server(certificates.server_context(), react) as address:
        with enable() as sock:
            with pytest.raises(twspy.HandshakeError) as caught:
                sock.connect(('localhost', address[1]))
            assert caught.value.status == 401
            assert caught.value.body == b'x' * 20000


@pytest.mark.parametrize('which', ['wrong_host', 'expired', 'stranger'])
def test_bad_certificate(
    certificates: Certificates, enable: Enable, which: str
) -> None:
    identity = getattr(certificates, which)
    with tls_server(certificates.server_context(identity)) as address:
        with enable(family=socket.AF_UNSPEC) as sock:
            with pytest.raises(
                SSLError, match=r'^TLS handshake with localhost.* failed: '
            ) as caught:
                sock.connect(('localhost', address[1]))
            assert 'certificate' in str(caught.value)
            assert sock.fileno() == -1


def test_server_hostname(certificates: Certificates, enable: Enable) -> None:
    context = certificates.server_context(certificates.wrong_host)
    with tls_server(context) as address:
        with enable(server_hostname='wrong.example') as sock:
            sock.connect(address)
            assert sock.request.headers['host'] == (f'127.0.0.1:{address[1]}')


def test_address_in_the_certificate(
    certificates: Certificates, enable: Enable
) -> None:
    with tls_server(certificates.server_context()) as address:
        with enable(family=socket.AF_UNSPEC) as sock:
            sock.connect(address)


@pytest.mark.parametrize(
    'host', ['localhost', 'localhost:4443', '[::1]:1', '[::1]', '127.0.0.1:1']
)
def test_handshake_of_a_connected_socket(
    certificates: Certificates, enable: Enable, host: str
) -> None:
    """The certificate must be for the host of the Host field."""
    with tls_server(certificates.server_context()) as address:
        raw = socket.create_connection(address)
        with enable(raw) as sock:
            sock.handshake(host=host)
            assert sock.secure
            assert sock.request.headers['host'] == host
    with tls_server(certificates.server_context()) as address:
        raw = socket.create_connection(address)
        with enable(raw) as sock:
            with pytest.raises(SSLError, match=r'other\.example'):
                sock.handshake(host='other.example:80')


def test_initial_bytes_can_not_be_decrypted(
    certificates: Certificates, enable: Enable
) -> None:
    one, two = socket.socketpair()
    with two, enable(one) as sock:
        with pytest.raises(ValueError, match='initial'):
            sock.handshake(host='localhost', initial=b'x')


def test_nonblocking(certificates: Certificates, enable: Enable) -> None:
    import select

    with tls_server(certificates.server_context()) as address:
        with enable(family=socket.AF_UNSPEC) as sock:
            sock.setblocking(False)
            for _ in range(100):
                try:
                    sock.connect(('localhost', address[1]))
                    break
                except BlockingIOError:
                    fd = sock.fileno()
                    assert fd >= 0
                    assert select.select([fd], [], [], 10)[0]
            assert sock.secure
            assert not sock.getblocking()


def test_session_is_resumed(certificates: Certificates) -> None:
    """By the next connection to the same host and port."""
    resumed = []
    context = certificates.server_context()
    listener = socket.create_server(('127.0.0.1', 0))

    def run() -> None:
        for _ in range(2):
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as tls:
                resumed.append(tls.session_reused)
                peer = RawPeer(tls)
                while b'\r\n\r\n' not in peer.buffer:
                    peer.read_more()
                lines = peer.buffer.decode().split('\r\n')[1:-2]
                head = dict(line.lower().split(': ', 1) for line in lines)
                key = next(
                    line.split(': ', 1)[1]
                    for line in lines
                    if line.lower().startswith('sec-websocket-key')
                )
                accept(peer, head | {'sec-websocket-key': key})
                peer.send(pack(TEXT, b'x', mask=False))
                try:
                    peer.read_more()
                except (EOFError, OSError):
                    pass

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(2):
        with twspy.websocket(family=socket.AF_UNSPEC) as sock:
            sock.enable_ssl(cafile=certificates.cafile)
            sock.connect(('localhost', listener.getsockname()[1]))
            assert sock.recv().payload == b'x'  # behind it comes the ticket
    thread.join(10)
    listener.close()
    assert not thread.is_alive()
    assert resumed == [False, True]


def test_client_certificate(certificates: Certificates) -> None:
    context = certificates.server_context(asks=True)
    with tls_server(context) as address:
        with twspy.websocket() as sock:
            sock.enable_ssl(
                cafile=certificates.cafile,
                certfile=certificates.client.certfile,
                keyfile=certificates.client.keyfile,
            )
            sock.connect(('localhost', address[1]))
    context = certificates.server_context(asks=True)
    with tls_server(context) as address:
        with twspy.websocket() as sock:
            sock.enable_ssl(cafile=certificates.cafile)
            with pytest.raises((SSLError, OSError)):
                sock.connect(('localhost', address[1]))


def test_bad_arguments_of_a_client(certificates: Certificates) -> None:
    """They show where it turns out that it is one, and the websocket lives
    on."""
    with twspy.websocket() as sock:
        sock.enable_ssl(cafile='/no/such/file')
        with pytest.raises(OSError, match='/no/such/file'):
            sock.connect(('127.0.0.1', 1))
        assert sock.fileno() >= 0
    with twspy.websocket() as sock:
        sock.enable_ssl(server_hostname='x' * 300)
        with pytest.raises(ValueError, match='server_hostname'):
            sock.connect(('127.0.0.1', 1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tls_server(certificates.server_context()) as address:
        with twspy.websocket() as sock:
            sock.enable_ssl(context=context)
            with pytest.raises(ssl.SSLError):
                sock.connect(address)
            assert sock.fileno() == -1
