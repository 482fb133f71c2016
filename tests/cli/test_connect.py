"""`twspy connect` in pipes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import TWSPY, run
from ports import refusing_port
from programs import SOON, Program

import twspy

if TYPE_CHECKING:
    from certificates import Certificates

ESCAPED = r'a\x1b[2J\rb\x9b\u202e\u2028\u061cc'


def test_messages_and_notes(url: str) -> None:
    done = run('connect', url, '-m', 'Grüße', '-m', 'second', '-w', '0.3')
    assert done.status == 0
    assert done.out.decode() == '< Grüße\n< second\n'
    assert done.err.startswith(f'* connected to {url[5:-1]}\n')
    assert 'normal closure' in done.err
    assert '1000' in done.err


def test_standard_input_quiet(url: str) -> None:
    text = ''.join(f'line {number}\n' for number in range(5000)) + 'last'
    done = run('connect', '-q', url, given=text.encode())
    assert done.status == 0
    assert done.out.decode() == f'{text}\n'
    assert done.err == ''


def test_quiet_output_is_raw_in_a_pipe(url: str) -> None:
    done = run('connect', '-q', url, '-m', 'nasty')
    assert done.out.decode().startswith('a\x1b[2J\rb')
    done = run('connect', '-q', '-b', url, given=b'\xff\x00\n\xfe')
    assert done.out == b'\xff\x00\xfe'


def test_what_a_peer_says_is_escaped(url: str) -> None:
    done = run('connect', url, '-m', 'nasty', '-m', 'ping', '-m', 'bye')
    assert done.status == 0
    # Nor can it pretend to be a note: its further lines are indented.
    assert done.out.decode() == f'< {ESCAPED}\n  * closed\n'
    assert r"* ping '\\x1b[2J'" in done.err or r"* ping '\x1b[2J'" in done.err
    assert 'going away' in done.err
    assert '1001' in done.err
    assert '\n* bye' not in done.err
    for text in (done.out.decode(), done.err):
        assert not set(text) & set('\x1b\r\x9b\u202e\u2028\u061c')


def test_files(url: str, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_text('two\nlines', encoding='utf-8')
    done = run('connect', '-q', url, '-f', str(path))
    assert done.out == b'two\nlines\n'
    path.write_bytes(b'\xff' * 70)
    done = run('connect', url, '-f', str(path))
    shown = ' '.join(['ff'] * 64)
    assert done.out.decode() == f'< <70 bytes: {shown} ...>\n'
    done = run('connect', url, '-f', str(tmp_path / 'none'))
    assert done.status == 2
    assert 'none' in done.err


def test_json(url: str) -> None:
    text = '{"a": ["ü"]}'
    done = run('connect', '-j', '-q', url, '-m', text, '-m', '{', '-w', '0.3')
    expected = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    assert done.out.decode() == f'{expected}\n{{\n'
    deep = '[' * 100_000
    done = run('connect', '-j', '-q', url, given=deep.encode())
    assert done.out.decode() == f'{deep}\n'


def test_headers_protocol_and_compression(url: str) -> None:
    done = run(
        *('connect', url, '-m', 'head', '--compress'),
        *('-H', 'X-One: 1', '-H', 'Cookie:a=b', '-o', 'http://example.com'),
        *('-p', 'a.example', '-p', 'b.example'),
    )
    assert done.status == 0
    for part in (
        "'X-One': '1'",
        "'Cookie': 'a=b'",
        "'Origin': 'http://example.com'",
    ):
        assert part in done.out.decode()
    assert 'subprotocol b.example' in done.err
    assert 'permessage-deflate' in done.err


def test_auth() -> None:
    auth = twspy.DigestAuth({'bob': 'builder'}.get)
    with twspy.Server(('127.0.0.1', 0), auth=auth) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        right = run('connect', url, '--auth', 'bob:builder', '-w', '0.1')
        assert right.status == 0
        wrong = run('connect', url, '--auth', 'bob:destroyer')
        assert wrong.status == 1
        assert '401' in wrong.err
        assert 'destroyer' not in wrong.err
        asked = run('connect', url, '--auth', 'bob')
        assert asked.status == 2
        assert 'USER:PASSWORD' in asked.err


def test_tls(certificates: Certificates) -> None:
    identity = certificates.server
    files = {'certfile': identity.certfile, 'keyfile': identity.keyfile}

    class Echo(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send(message)

    with Echo(('127.0.0.1', 0), ssl_args=files) as server:
        url = f'wss://localhost:{server.address[1]}/'
        cafile = str(certificates.cafile)
        for options in (
            ['--cafile', cafile],
            ['--insecure'],
            ['--cafile', cafile, '--server-hostname', 'localhost'],
        ):
            done = run('connect', url, '-m', 'hi', '-w', '0.3', *options)
            assert (done.status, done.out) == (0, b'< hi\n')
            assert 'TLSv1.3' in done.err
        for options in (
            [],
            ['--cafile', cafile, '--server-hostname', 'wrong.example'],
        ):
            done = run('connect', url, '-m', 'hi', *options)
            assert (done.status, done.out) == (1, b'')
            assert 'certificate' in done.err


def test_certificate_of_our_own(certificates: Certificates) -> None:
    identity = certificates.server
    files = {
        'certfile': identity.certfile,
        'keyfile': identity.keyfile,
        'cafile': certificates.cafile,
        'require_client_cert': True,
    }
    own = certificates.client
    with twspy.Server(('127.0.0.1', 0), ssl_args=files) as server:
        url = f'wss://localhost:{server.address[1]}/'
        given = ['--cafile', str(certificates.cafile)]
        done = run('connect', url, '-m', 'hi', *given)
        assert done.status == 1
        given += ['--cert', str(own.certfile), '--key', str(own.keyfile)]
        done = run('connect', url, '-m', 'hi', '-w', '0.1', *given)
        assert done.status == 0


def test_status_where_the_server_closes(url: str) -> None:
    """At once, whatever standard input may still have to say."""
    with Program(*TWSPY, 'connect', url) as program:
        program.wait_for('connected')
        program.type('no')
        program.wait_for('policy violation.*1008.*not you')
        # Its standard input is still open: wait() would close it.
        assert program.returncode() == 1


def test_status_where_there_is_no_connection(url: str) -> None:
    with refusing_port() as port:
        done = run('connect', f'ws://127.0.0.1:{port}/')
    assert done.status == 1
    assert 'refused' in done.err
    done = run('connect', f'{url}no', '-m', 'x')
    assert done.status == 1
    assert '403' in done.err
    with socket.create_server(('127.0.0.1', 0)) as silent:
        silent_url = f'ws://127.0.0.1:{silent.getsockname()[1]}/'
        done = run('connect', silent_url, '--timeout', '0.2')
    assert done.status == 1
    assert 'timed out' in done.err or 'timeout' in done.err


@pytest.mark.parametrize('command', ['connect', 'bench'])
def test_no_password_in_what_is_printed(command: str) -> None:
    with refusing_port() as port:
        done = run(command, f'ws://bob:builder@127.0.0.1:{port}/?t=builder')
    assert done.status == 1
    assert 'refused' in done.err
    assert '127.0.0.1' in done.err
    assert 'builder' not in done.err + done.out.decode()


@pytest.mark.parametrize(
    'arguments',
    [
        (),
        ('http://127.0.0.1/',),
        ('ws://127.0.0.1/', '-H', 'no colon'),
        ('ws://127.0.0.1/', '--timeout', '0'),
        ('ws://127.0.0.1/', '--timeout', 'nan'),
        ('ws://127.0.0.1/', '-m', 'x', '-f', 'y'),
        ('ws://127.0.0.1/', '--max', '5'),
    ],
)
def test_usage(arguments: tuple[str, ...]) -> None:
    done = run('connect', *arguments)
    assert done.status == 2
    assert 'twspy' in done.err
    assert 'Traceback' not in done.err


def test_input_that_is_not_utf8(url: str) -> None:
    done = run('connect', url, given=b'good\n\xff\n')
    assert done.status == 2
    assert 'line 2 of standard input is not UTF-8' in done.err


def test_interrupt(url: str) -> None:
    with Program(*TWSPY, 'connect', url) as program:
        program.type('hi')
        program.wait_for('^< hi$')
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130
        assert 'Traceback' not in program.text
        assert '1000' in program.text  # it has closed the connection


def test_closed_pipe_is_quiet(url: str) -> None:
    """As in `twspy connect URL | head -1`."""
    process = subprocess.Popen(
        [*TWSPY, 'connect', url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout and process.stderr
    with process:
        process.stdin.write(b'one\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'< one\n'
        process.stdout.close()
        process.stdin.write(b'two\n')
        process.stdin.flush()
        # It ends by itself: nobody closes its standard input.
        assert process.wait(SOON) == 0
        assert b'Broken' not in process.stderr.read()


def test_wait_for_ever(url: str) -> None:
    with Program(*TWSPY, 'connect', url, '-m', 'hi', '-w', 'inf') as program:
        program.wait_for('^< hi$')
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130
