"""The programs in examples/, with clients and servers of another kind."""

from __future__ import annotations

import http
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets.sync.server
from programs import ROOT, Program, run_python
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection

EXAMPLES = ROOT / 'examples'
GREETING = 'Grüße an 世界 🌍'
LISTENING = r'listening on (?:port |127\.0\.0\.1:)(\d+)$'


@contextmanager
def example(tmp_path: Path, name: str, *arguments: str) -> Iterator[Program]:
    with run_python(EXAMPLES / name, *arguments, cwd=tmp_path) as program:
        yield program
        assert 'Traceback' not in program.text


@contextmanager
def echo_server() -> Iterator[int]:
    """A server that echoes texts and ends with its client."""

    def handle(connection: ServerConnection) -> None:
        try:
            while True:
                connection.send(connection.recv())
        except ConnectionClosed:
            assert connection.close_code == 1000

    with websockets.sync.server.serve(handle, '127.0.0.1', 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_every_example_is_tested() -> None:
    names = {path.name for path in EXAMPLES.glob('*.py')}
    text = ''.join(
        path.read_text(encoding='utf-8')
        for path in ROOT.glob('tests/*/test_example*.py')
    )
    assert names
    assert [name for name in names if f"'{name}'" not in text] == []
    listed = (EXAMPLES / 'README.md').read_text(encoding='utf-8')
    assert set(re.findall(r'\((\w+\.py)\)', listed)) == names


def test_echo_server(tmp_path: Path) -> None:
    with example(tmp_path, 'echo_server.py', '0') as program:
        port = program.wait_for(LISTENING)[1]
        with connect(f'ws://127.0.0.1:{port}/') as client:
            program.wait_for(r'^127\.0\.0\.1:\d+ has connected$')
            for message in (GREETING, b'\x00\xff', ''):
                client.send(message)
                assert client.recv() == message
        program.wait_for('has gone, with code 1000$')
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0


def test_echo_client(tmp_path: Path) -> None:
    with (
        echo_server() as port,
        example(
            tmp_path, 'echo_client.py', f'ws://127.0.0.1:{port}/'
        ) as program,
    ):
        for line in ('Hello', GREETING):
            program.type(line)
            program.wait_for(f'^{line}$')
        assert program.wait() == 0


def test_chat(tmp_path: Path) -> None:
    with example(tmp_path, 'chat.py', '0') as program:
        url = f'ws://127.0.0.1:{program.wait_for(LISTENING)[1]}/'
        with connect(url) as ada, connect(url) as grace:
            said = {'name': 'Ada', 'text': GREETING}
            ada.send(json.dumps(said))
            for client in (ada, grace):
                assert json.loads(client.recv()) == {**said, 'members': 2}
            for nonsense in ('Hello', '[]', '{"name": "Ada"}', b'\xff'):
                with connect(url) as client:
                    client.send(nonsense)
                    with pytest.raises(ConnectionClosed) as caught:
                        client.recv()
                    assert caught.value.rcvd is not None
                    assert caught.value.rcvd.code == 1008
            grace.send(json.dumps(said))
            assert json.loads(ada.recv())['text'] == GREETING
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


@pytest.mark.parametrize(
    'command',
    [
        ('echo_server.py', '0'),
        ('chat.py', '0'),
        ('low_level.py', 'server', '0'),
        ('chat_page.py', '0'),
        ('rooms.py', '0'),
        ('json_rpc.py', '0'),
        ('game.py', '0'),
        ('upload.py', '0'),
        ('dashboard.py', '0'),
    ],
    ids=lambda command: command[0],
)
def test_examples_refuse_pages_of_other_origins(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with example(tmp_path, *command) as program:
        url = f'ws://127.0.0.1:{program.wait_for(LISTENING)[1]}/'
        with (
            pytest.raises(InvalidStatus) as caught,
            connect(url, origin='http://evil.example'),  # type: ignore[arg-type]
        ):
            pass
        assert caught.value.response.status_code == http.HTTPStatus.FORBIDDEN


def test_low_level_server(tmp_path: Path) -> None:
    with example(tmp_path, 'low_level.py', 'server', '0') as program:
        port = program.wait_for(LISTENING)[1]
        with connect(f'ws://127.0.0.1:{port}/') as client:
            assert client.recv() == 'Hello, Client!'
            client.send(['Hel', 'lo'])
            assert client.ping(b'?').wait(10)
            client.close(1001, 'enough')
            assert client.close_code == 1001
        assert program.wait() == 0
        for part in ('Hel', 'lo', 'enough'):
            assert part in program.text


def test_low_level_client(tmp_path: Path) -> None:
    with (
        echo_server() as port,
        example(tmp_path, 'low_level.py', 'client', str(port)) as program,
    ):
        program.wait_for('^closed with 1000 that is all$')
        assert program.wait() == 0
        assert 'there?' in program.text
        assert 'Hello, Server!' in program.text


def test_low_level_both(tmp_path: Path) -> None:
    with example(tmp_path, 'low_level.py', 'server', '0') as server:
        port = server.wait_for(LISTENING)[1]
        with example(tmp_path, 'low_level.py', 'client', port) as client:
            client.wait_for('Hello, Client!')
            client.wait_for('^closed with 1000 that is all$')
            assert client.wait() == 0
        assert server.wait() == 0
        assert 'erver!' in server.text


def test_checksum(tmp_path: Path) -> None:
    with example(tmp_path, 'checksum.py') as program:
        program.wait_for(r'^Hello, checked! \(<Checksum x-checksum>,\)$')
        assert program.wait() == 0
