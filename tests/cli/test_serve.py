"""`twspy serve`, `twspy echo` and `--version`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import TWSPY, run
from programs import Program
from websockets.sync.client import connect

import twspy
from twspy import _twspy
from twspy.cli.reload import _await_change, files_below

if TYPE_CHECKING:
    from certificates import Certificates

LISTENING = r'listening on (?:port |127\.0\.0\.1:)(\d+)$'
APP = """
import twspy

class App(twspy.Server):
    def __init__(self, address, **options):
        options.setdefault('max_size', 10)
        super().__init__(address, **options)

    def onmessage(self, client, message):
        client.send('ANSWER')

class Plain(twspy.Server):
    pass

class Nested:
    App = App

def make(address, **options):
    return App(address, **options)

number = 5
def wrong(address, **options):
    return 5
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / 'app.py'
    path.write_text(APP.replace('ANSWER', 'one'), encoding='utf-8')
    return path


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[tuple[Program, str]]:
    """The running command, and its URL."""
    with Program(*TWSPY, *arguments, '--port', '0', cwd=directory) as program:
        port = program.wait_for(LISTENING)[1]
        yield program, f'ws://127.0.0.1:{port}/'


def say(url: str, text: str = 'x') -> str | bytes:
    with connect(url, proxy=None) as client:
        client.send(text)
        return client.recv(timeout=20)


def test_echo(tmp_path: Path) -> None:
    with serving(tmp_path, 'echo', '--max-size', '4') as (program, url):
        assert say(url, 'echo') == 'echo'
        own = url.replace('ws', 'http')[:-1]
        twspy.connect(url, origin=own, proxy=None).close()
        with pytest.raises(twspy.HandshakeError) as refused:
            twspy.connect(url, origin='http://evil.example', proxy=None)
        assert refused.value.status == 403
        with twspy.connect(url, proxy=None) as client:
            client.send('12345')
            with pytest.raises(twspy.SocketClosed) as caught:
                client.recv(timeout=20)
            assert caught.value.code == 1009
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0


@pytest.mark.parametrize('name', ['App', 'Nested.App', 'make'])
def test_classes(app: Path, name: str) -> None:
    target = f'app:{name}'
    with serving(app.parent, 'serve', target) as (program, url):
        assert say(url) == 'one'
        with twspy.connect(url, proxy=None) as client:
            client.send('x' * 11)  # the class's own limit holds
            with pytest.raises(twspy.SocketClosed):
                client.recv(timeout=20)
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


@pytest.mark.parametrize(
    ('name', 'options', 'admitted'),
    [
        ('Plain', [], False),
        ('Plain', ['--origin', 'any'], True),
        ('App', [], True),  # has its own rules
        ('App', ['--origin', 'http://b.example'], False),
        ('App', ['--origin', 'http://a.example'], True),
    ],
)
def test_origins(
    app: Path, name: str, options: list[str], admitted: bool
) -> None:
    with serving(app.parent, 'serve', f'app:{name}', *options) as (_, url):
        try:
            twspy.connect(url, origin='http://a.example', proxy=None).close()
        except twspy.HandshakeError as error:
            assert error.status == 403
            assert not admitted
        else:
            assert admitted


def test_tls_workers_and_log_level(
    app: Path, certificates: Certificates
) -> None:
    identity = certificates.server
    with serving(
        *(app.parent, 'serve', 'app:App', '--log-level', 'debug'),
        *('--cert', str(identity.certfile), '--key', str(identity.keyfile)),
        *('--workers', '2', '--compress'),
    ) as (program, url):
        url = url.replace('ws://', 'wss://')
        with twspy.connect(
            url,
            ssl_args={'cafile': certificates.cafile},
            compression='deflate',
            proxy=None,
        ) as client:
            assert client.extensions
            client.send('x')
            assert client.recv(timeout=20).payload == 'one'
        program.wait_for('DEBUG')
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


def test_reload(app: Path) -> None:
    def change(text: str) -> None:
        before = app.stat().st_mtime_ns
        app.write_text(text, encoding='utf-8')
        os.utime(app, ns=(before + 10**9, before + 10**9))

    with serving(app.parent, 'serve', 'app:App', '--reload') as (program, url):
        assert say(url) == 'one'
        change(APP.replace('ANSWER', 'two'))
        program.wait_for('app.py has changed')
        port = program.wait_for(LISTENING)[1]
        assert say(f'ws://127.0.0.1:{port}/') == 'two'
        change('def broken(:\n')
        program.wait_for('SyntaxError')
        change(APP.replace('ANSWER', 'three'))
        port = program.wait_for(LISTENING)[1]
        assert say(f'ws://127.0.0.1:{port}/') == 'three'
        program.send_signal(signal.SIGTERM)
        # Its output ends only when the server has ended, too.
        assert program.wait() == 0
        assert 'stopped listening' in program.lines[-1]


def test_what_counts_as_a_change(tmp_path: Path) -> None:
    for name in 'a.py', 'b/c.py', '.venv/d.py', 'node_modules/e.py', 'f.html':
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    seen = files_below(tmp_path)
    assert set(seen) == {tmp_path / 'a.py', tmp_path / 'b' / 'c.py'}
    (tmp_path / 'b' / 'new.py').touch()
    assert _await_change(tmp_path, seen) == Path('b', 'new.py')
    seen = files_below(tmp_path)
    (tmp_path / 'a.py').unlink()
    assert _await_change(tmp_path, seen) == Path('a.py')


@pytest.mark.parametrize(
    ('arguments', 'status', 'text'),
    [
        (['serve', 'app'], 2, 'MODULE:CLASS'),
        (['serve', 'nothing:App'], 2, "no module 'nothing'"),
        (['serve', 'app:Nothing'], 2, "no 'Nothing'"),
        (['serve', 'app:number'], 2, 'no class'),
        (['serve', 'app:wrong'], 2, 'expected a twspy.Server'),
        (['serve', 'app:App', '--key', 'x'], 2, 'without --cert'),
        (['echo', '--port', '65536'], 2, '65535'),
        (['echo', '--protocol', 'a b', '--port', '0'], 2, 'a b'),
        (['echo', '--origin', 'any', '--origin', 'x'], 2, '--origin any'),
        (['echo', '--reload'], 2, '--reload'),
        (['serve', 'app:App', '--rel'], 2, '--rel'),
        (['echo', '--cert', '/no/such', '--port', '0'], 1, '/no/such'),
        ([], 2, 'COMMAND'),
    ],
)
def test_mistakes(
    app: Path,
    arguments: list[str],
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(app.parent)
    done = run(*arguments)
    assert done.status == status
    assert text in done.err
    assert 'Traceback' not in done.err


def test_port_in_use(url: str) -> None:
    port = url.rpartition(':')[2].rstrip('/')
    done = run('echo', '--port', port)
    assert done.status == 1
    assert 'in use' in done.err


def test_version() -> None:
    done = run('--version')
    assert done.status == 0
    facts = _twspy.build_facts()
    lines = done.out.decode().splitlines()
    assert lines[0] == f'twspy {twspy.__version__}'
    for fact in facts.values():
        assert any(fact in line for line in lines), fact


def test_build_facts() -> None:
    import ssl
    import zlib

    facts = _twspy.build_facts()
    assert set(facts) == {
        *('openssl', 'openssl_built', 'zlib', 'zlib_built'),
        *('simd', 'simd_utf8', 'compiler'),
    }
    assert facts['openssl'].startswith('OpenSSL ')
    # The library that is loaded is the one that Python's own module found.
    if facts['openssl'].split()[:2] != ssl.OPENSSL_VERSION.split()[:2]:
        assert 'openssl' in facts['openssl'].lower()
    assert facts['openssl_built'].split()[1].split('.')[0] == '3'
    assert facts['zlib'].split('.')[0] == zlib.ZLIB_VERSION.split('.')[0]
    assert facts is not _twspy.build_facts()


def test_help_names_the_commands_and_the_status() -> None:
    text = run('--help').out.decode()
    for word in ('connect', 'serve', 'echo', 'bench', '130'):
        assert word in text
