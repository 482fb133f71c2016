"""The README: its programs run, and its numbers are those of the package."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blocks import programs_of
from certificates import Certificates
from credentials import challenges, digest
from ports import free_port
from programs import ROOT, Program, run_python, wait_for_port
from rawpeer import RawPeer, request
from websockets.sync.client import connect

import twspy

GREETING = 'Grüße an 世界 🌍'


def readme() -> str:
    return (ROOT / 'README.md').read_text(encoding='utf-8')


def programs() -> dict[str, str]:
    """The README's programs, each by a phrase that only it has."""
    found = programs_of(ROOT / 'README.md')
    names = {
        'class EchoServer': 'server',
        'with twspy.connect': 'client',
        'twspy.reconnect': 'reconnecting client',
        'class Chat': 'chat',
        'class Members': 'members',
        'class EchoConnection': 'connection',
        'class DigestServer': 'stream server',
        'send_stream()': 'stream client',
        'class Echo(': 'tls server',
        'class Checksum': 'extension',
        'sock.listen()': 'frame server',
        'sock.connect': 'frame client',
    }
    named = {
        name: program
        for program in found
        for phrase, name in names.items()
        if phrase in program
    }
    assert len(named) == len(found) == len(names)
    return named


@contextmanager
def running(tmp_path: Path, name: str, port: int) -> Iterator[Program]:
    program = programs()[name]
    assert program.count('8000') == 1
    path = tmp_path / f'{name}.py'
    path.write_text(program.replace('8000', str(port)), encoding='utf-8')
    with run_python(path.name, cwd=tmp_path) as process:
        yield process


@pytest.mark.parametrize('name', ['server', 'connection'])
def test_client_and_echo_servers(tmp_path: Path, name: str) -> None:
    port = free_port()
    with running(tmp_path, name, port) as server:
        wait_for_port(port)
        with running(tmp_path, 'client', port) as client:
            assert client.wait() == 0
            assert client.lines == ['Hello, Server!']
        server.wait_for('connected|opened')
        server.wait_for('disconnected|closed with 1000')
        server.send_signal(signal.SIGINT)
        assert (server.wait() == 0) == (name == 'server')


def test_tls_server(tmp_path: Path, certificates: Certificates) -> None:
    for name, path in [
        ('server.pem', certificates.server.certfile),
        ('server.key', certificates.server.keyfile),
    ]:
        shutil.copy(path, tmp_path / name)
    port = free_port()
    with running(tmp_path, 'tls server', port) as server:
        wait_for_port(port)
        with twspy.connect(
            f'wss://localhost:{port}/',
            ssl_args={'cafile': certificates.cafile},
        ) as connection:
            connection.send(GREETING)
            assert connection.recv(timeout=10).payload == GREETING
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_reconnecting_client(tmp_path: Path) -> None:
    class Server(twspy.Server):
        def onopen(self, client: twspy.Connection) -> None:
            client.send(f'hello from number {number}')

    port = free_port()
    with running(tmp_path, 'reconnecting client', port) as client:
        for number in 1, 2:
            with Server(('127.0.0.1', port)):
                client.wait_for(f'hello from number {number}')
        client.send_signal(signal.SIGINT)
        assert client.wait() != 0
        assert 'KeyboardInterrupt' in client.lines[-1]


def test_frames(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, 'frame server', port) as server:
        wait_for_port(port)
        with running(tmp_path, 'frame client', port) as client:
            assert client.wait() == 0
            assert client.lines == ["b'Hello, Client!'"]
        assert server.wait() == 0
        assert server.lines == ["b'Hello, Server!'"]


def test_streams(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, 'stream server', port) as server:
        wait_for_port(port)
        with running(tmp_path, 'stream client', port) as client:
            assert client.wait() == 0
            sent = (tmp_path / 'stream client.py').read_bytes()
            assert client.lines == [hashlib.sha256(sent).hexdigest()]
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_extension(tmp_path: Path) -> None:
    """It is the one among the examples, which is run."""
    example = ROOT / 'examples' / 'checksum.py'
    assert programs()['extension'] == example.read_text(encoding='utf-8')
    with run_python(example, cwd=tmp_path) as program:
        assert program.wait() == 0
        expected = 'Hello, checked! (<Checksum x-checksum>,)'
        assert expected in program.lines


def test_chat(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, 'chat', port) as server:
        wait_for_port(port)
        address = f'http://127.0.0.1:{port}'
        with urllib.request.urlopen(f'{address}/health') as answer:
            assert answer.read() == b'fine\n'
        with pytest.raises(urllib.error.HTTPError, match='404') as caught:
            urllib.request.urlopen(address)
        caught.value.close()
        url = f'ws://127.0.0.1:{port}/'
        with connect(url) as one, connect(url) as two:
            one.send('no JSON')  # onerror logs it
            server.wait_for('JSONDecodeError')
            one.send(json.dumps({'text': GREETING}))
            for peer in (one, two):
                expected = {'text': GREETING, 'members': 2}
                assert json.loads(peer.recv()) == expected
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_members(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, 'members', port) as server:
        wait_for_port(port)
        address = ('127.0.0.1', port)
        for name, password, path, status in (
            ('alice', 'wonderland', '/admin', 101),
            ('bob', 'builder', '/', 101),
            ('bob', 'builder', '/admin', 403),
            ('bob', 'wonderland', '/', 401),
        ):
            with RawPeer.open(address) as peer:
                peer.send(request(path))
                found, head, _ = peer.read_answer()
                assert found == 401
            (challenge,) = challenges([head['www-authenticate']]).values()
            answer = digest(challenge, name, password, uri=path)
            with RawPeer.open(address) as peer:
                peer.send(request(path, Authorization=answer))
                assert peer.read_head()[0] == status
                if status == 101:
                    greeting = peer.read_frame().payload.decode()
                    assert greeting == f'Hello, {name}!'
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_commands_are_targets_of_make() -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    commands = re.findall(r'`make ([a-z-]+)`', readme())
    assert commands[:2] == ['demo', 'test']
    for command in commands:
        assert re.search(rf'^{command}:', makefile, re.M), command


def test_links_lead_somewhere() -> None:
    targets = re.findall(r'\]\((?!https?:)([^)#]+)', readme())
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_defaults_are_those_of_the_code() -> None:
    table = dict(re.findall(r'^\| ([^|]+) \| ([^|]+) \|', readme(), re.M))
    server = inspect.signature(twspy.Server).parameters
    sock = inspect.signature(twspy.websocket).parameters
    assert sock['max_size'].default == 1 << 20
    assert table['message'].startswith('1 MiB')
    assert sock['open_timeout'].default == 10
    assert table['opening handshake, as a whole'] == '10 s'
    assert sock['close_timeout'].default == 2
    assert table['closing handshake'] == '2 s'
    connect = inspect.signature(twspy.connect).parameters
    assert connect['redirects'].default == 10
    assert table['redirects that `connect()` follows'] == '10'
    assert server['max_join_time'].default == 2
    assert table['stop of a server'].startswith('2 s')
    assembler = (ROOT / 'csrc/protocol/assembler.h').read_text()
    assert '.fragments = 1 << 17' in assembler
    assert table['fragments of a message'].startswith(f'{1 << 17:,}')
    http1 = (ROOT / 'csrc/protocol/http1.h').read_text()
    assert '.head_bytes = 16384, .field_count = 128' in http1
    assert table['head of a request'].startswith('16 KiB and 128 header')
