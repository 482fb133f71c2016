"""The programs in examples/ that need more than a client: rooms, tickets,
TLS, a proxy, other programs."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import signal
import ssl
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import websockets.sync.client
import websockets.sync.server
from ports import free_port, refusing_port
from programs import ROOT, SOON, Program, run_python
from websockets.exceptions import ConnectionClosed

import twspy

if TYPE_CHECKING:
    from certificates import Certificates

EXAMPLES = ROOT / 'examples'
LISTENING = r'listening on (?:port |127\.0\.0\.1:)(\d+)$'


@contextmanager
def example(
    tmp_path: Path, name: str, *arguments: str
) -> Iterator[tuple[Program, str]]:
    """The running example, and where it listens: HOST:PORT."""
    with run_python(EXAMPLES / name, *arguments, cwd=tmp_path) as program:
        yield program, f'127.0.0.1:{program.wait_for(LISTENING)[1]}'
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert 'Traceback' not in program.text


def connect(
    url: str, **options: Any
) -> websockets.sync.client.ClientConnection:
    return websockets.sync.client.connect(url, proxy=None, **options)


def fetch(url: str, data: bytes | None = None) -> str:
    """A page, with no proxy of the environment's; `data` is posted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, data, timeout=SOON) as answer:
        text: str = answer.read().decode()
        return text


def test_json_rpc(tmp_path: Path) -> None:
    with (
        example(tmp_path, 'json_rpc.py', '0') as (_, place),
        connect(f'ws://{place}/') as client,
    ):

        def ask(**request: Any) -> Any:
            client.send(json.dumps({'jsonrpc': '2.0', **request}))
            answer = json.loads(client.recv(SOON))
            assert answer['jsonrpc'] == '2.0'
            assert answer['id'] == request.get('id')
            return answer.get('result', answer.get('error', {}).get('code'))

        assert ask(method='add', params=[2, 3], id=1) == 5
        assert ask(method='greet', params={'name': 'Ada'}, id='x') == (
            'Hello, Ada!'
        )
        assert ask(method='greet', id=2) == 'Hello, world!'
        assert ask(method='add', params=[2], id=3) == -32602
        assert ask(method='add', params=[2, 'x'], id=3) == -32602
        assert ask(method='add', params=5, id=3) == -32602
        assert ask(method='nothing', id=4) == -32601
        assert ask(method=['add'], id=4) == -32601
        assert ask(id=5) == -32600
        client.send('{')
        assert json.loads(client.recv(SOON))['error']['code'] == -32700
        client.send('{"jsonrpc": "2.0", "method": "greet"}')  # notification
        assert ask(method='add', params=[1, 1], id=6) == 2


def test_rooms(tmp_path: Path) -> None:
    with (
        example(tmp_path, 'rooms.py', '0') as (_, place),
        connect(f'ws://{place}/cats') as one,
    ):
        assert one.recv(SOON) == '1 in this room'
        with connect(f'ws://{place}/cats') as two:
            with connect(f'ws://{place}/dogs') as three:
                assert three.recv(SOON) == '1 in this room'
                assert two.recv(SOON) == one.recv(SOON) == '2 in this room'
                two.send('meow')
                assert two.recv(SOON) == one.recv(SOON) == 'meow'
                three.send('wuff')
                assert three.recv(SOON) == 'wuff'
                two.send('purr')
                assert one.recv(SOON) == 'purr'
        with connect(f'ws://{place}/dogs') as four:
            assert four.recv(SOON) == '1 in this room'


def test_tls(tmp_path: Path, certificates: Certificates) -> None:
    files = str(tmp_path / 'cert.pem'), str(tmp_path / 'key.pem')

    def install(identity: Any) -> None:
        shutil.copy(identity.certfile, files[0])
        shutil.copy(identity.keyfile, files[1])

    install(certificates.server)
    with example(tmp_path, 'tls.py', 'server', *files, '0') as (server, place):
        context = certificates.client_context()
        url = f'wss://localhost:{place.rpartition(":")[2]}/'

        def serial() -> object:
            with connect(url, ssl=context) as client:
                client.send('hello')
                assert client.recv(SOON) == 'hello'
                assert isinstance(client.socket, ssl.SSLSocket)
                certificate = client.socket.getpeercert()
                assert certificate is not None
                return certificate['serialNumber']

        before = serial()
        install(certificates.chained)
        assert serial() == before
        server.send_signal(signal.SIGHUP)
        server.wait_for('reloaded the certificates')
        assert serial() != before
        with run_python(
            *(EXAMPLES / 'tls.py', 'client', certificates.cafile, url),
            cwd=tmp_path,
        ) as program:
            program.wait_for(r'^Hello, safely! TLSv1\.3$')
            assert program.wait() == 0
        with run_python(
            *(EXAMPLES / 'tls.py', 'client', certificates.stranger_cafile),
            *(url,),
            cwd=tmp_path,
        ) as program:
            assert program.wait() == 1
            assert 'certificate' in program.text


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('tls.py', []),
        ('tls.py', ['server']),
        ('tls.py', ['serve', 'x', 'y']),
        ('proxy.py', []),
        ('low_level.py', []),
        ('low_level.py', ['serve']),
    ],
)
def test_without_arguments_it_says_which(
    tmp_path: Path, name: str, arguments: list[str]
) -> None:
    with run_python(EXAMPLES / name, *arguments, cwd=tmp_path) as program:
        assert program.wait() == 1
    assert 'Traceback' not in program.text
    assert f'\npython {name} ' in program.text


def test_proxy(tmp_path: Path) -> None:
    paths = []
    codes: queue.Queue[int | None] = queue.Queue()

    def handle(connection: websockets.sync.server.ServerConnection) -> None:
        assert connection.request is not None
        paths.append(connection.request.path)
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                if message == 'bye':
                    connection.close(4001, 'enough')
                connection.send(message)
        codes.put(connection.protocol.close_code)

    with websockets.sync.server.serve(handle, '127.0.0.1', 0) as behind:
        thread = threading.Thread(target=behind.serve_forever)
        thread.start()
        url = f'ws://127.0.0.1:{behind.socket.getsockname()[1]}/'
        with (
            example(tmp_path, 'proxy.py', url, '0') as (program, place),
            connect(f'ws://{place}/a?b=c') as client,
        ):
            for message in 'hello', b'\xff':
                client.send(message)
                assert client.recv(SOON) == message
            program.wait_for('> .*hello')
            program.wait_for('< .*hello')
            client.send('bye')
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(SOON)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4001
            assert caught.value.rcvd.reason == 'enough'
            assert codes.get(timeout=SOON) == 4001
            # And the other way round; 1006 is no code to send.
            for close, passed_on in (
                (lambda leaving: leaving.close(4002), 4002),
                (lambda leaving: leaving.sock.close(), 1001),
            ):
                with twspy.connect(f'ws://{place}/', proxy=None) as leaving:
                    leaving.send('hello')
                    assert leaving.recv(timeout=SOON).payload == 'hello'
                    close(leaving)
                assert codes.get(timeout=SOON) == passed_on
        assert paths == ['/a?b=c', '/', '/']
        behind.shutdown()
        thread.join()


def test_proxy_with_nobody_behind(tmp_path: Path) -> None:
    with (
        refusing_port() as port,
        example(tmp_path, 'proxy.py', f'ws://127.0.0.1:{port}', '0') as (
            _,
            place,
        ),
        twspy.connect(f'ws://{place}/', proxy=None) as client,
        pytest.raises(twspy.SocketClosed) as caught,
    ):
        client.recv(timeout=SOON)
    assert caught.value.code == twspy.CLOSE_BAD_GATEWAY


def test_reconnecting_client(tmp_path: Path) -> None:
    """Three servers, one after the other, on the same port."""
    port = free_port()
    heard: list[str | bytes] = []
    over = threading.Event()

    def handle(connection: websockets.sync.server.ServerConnection) -> None:
        heard.append(connection.recv(SOON))
        connection.send(f'news {len(heard)}')
        # Some ends are errors, and it goes on.
        connection.close(1012 if len(heard) == 2 else 1001, 'restart')
        over.set()

    url = f'ws://127.0.0.1:{port}/'
    with run_python(
        EXAMPLES / 'reconnecting_client.py', url, cwd=tmp_path
    ) as program:
        for number in range(1, 4):
            with websockets.sync.server.serve(
                handle, '127.0.0.1', port
            ) as server:
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                program.wait_for(f'^news {number}$')
                assert over.wait(SOON)
                over.clear()
                server.shutdown()
                thread.join()
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
    assert '1012' in program.text
    assert heard[:3] == ['after 0', 'after 1', 'after 2']
    assert 'Traceback' not in program.text


def test_pytest_fixtures(tmp_path: Path) -> None:
    with run_python(
        *('-m', 'pytest', '-q', '-p', 'no:cacheprovider'),
        EXAMPLES / 'pytest_fixtures.py',
        cwd=tmp_path,
    ) as program:
        assert program.wait() == 0
        assert '3 passed' in program.text


def test_game_without_a_page(tmp_path: Path) -> None:
    """Nonsense moves nobody, and sixty pictures come in a second."""
    with (
        example(tmp_path, 'game.py', '0') as (_, place),
        connect(f'ws://{place}/') as client,
    ):

        def place_of_first() -> tuple[int, int]:
            while True:
                picture = client.recv(SOON)
                assert isinstance(picture, bytes)
                if picture:
                    x, y = struct.unpack_from('>HH', picture)
                    return x, y

        assert place_of_first() == (200, 200)
        client.send('{"x": 1e9, "y": 0}')
        while (found := place_of_first())[0] < 210:
            pass
        assert found[0] < 240  # no faster than the others
        client.send('{"x": -1, "y": -1}')
        while place_of_first() != (0, 0):
            pass


def test_upload_that_is_given_up(tmp_path: Path) -> None:
    target = tmp_path / 'files'
    target.mkdir()
    with example(tmp_path, 'upload.py', '0', str(target)) as (_, place):
        with connect(f'ws://{place}/') as client:
            client.send(b'x' * 600_000)
            while 'name' not in (said := json.loads(client.recv(SOON))):
                assert said['bytes'] <= 600_000
            assert (target / said['name']).read_bytes() == b'x' * 600_000
        with connect(f'ws://{place}/') as client:
            client.send('a text')
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(SOON)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1003
        with connect(f'ws://{place}/') as client:
            pieces = iter([b'x' * 300_000])

            def broken() -> Iterator[bytes]:
                yield next(pieces)
                assert json.loads(client.recv(SOON))['bytes'] <= 300_000
                client.socket.close()
                raise ConnectionError

            with contextlib.suppress(ConnectionError, ConnectionClosed):
                client.send(broken())
    # The server has ended, and with it the handler.
    assert [path.name for path in target.iterdir()] == [said['name']]


def test_beside_wsgi(tmp_path: Path) -> None:
    with run_python(
        EXAMPLES / 'beside_wsgi.py', '0', '0', cwd=tmp_path
    ) as program:
        page = program.wait_for(r'^open (http://127\.0\.0\.1:\d+)/$')[1]
        address = program.wait_for(LISTENING)[1]
        assert f"'ws://127.0.0.1:{address}/'" in fetch(f'{page}/')
        with connect(f'ws://127.0.0.1:{address}/', origin=page) as client:
            assert fetch(f'{page}/news', b'text=hello') == ''
            assert client.recv(SOON) == 'hello'
        with pytest.raises(twspy.HandshakeError):
            twspy.connect(
                f'ws://127.0.0.1:{address}/',
                origin=f'http://127.0.0.1:{address}',
                proxy=None,
            )
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert 'Traceback' not in program.text
