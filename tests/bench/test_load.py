"""The load generator of bench/: what it says of right and of wrong echoes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificates
from servers import SOON, EchoServer

import twspy

LOAD = Path(__file__).parents[2] / 'bench' / 'load'

# Whatever is in flight, these come early.
SHORT = ('--seconds', '0.1', '--warmup', '0')
WRONG = 5  # the message of a connection that is not answered as it should be

Answer = Callable[[bytes], list[bytes]]


@pytest.fixture(scope='session')
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled as strictly as the rest of the C."""
    root = LOAD.parents[1]
    program = tmp_path_factory.mktemp('load') / 'load'
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    flags = (root / 'tools' / 'warnings.txt').read_text().split()
    subprocess.run(
        [
            *(*compiler, '-std=c11', '-D_GNU_SOURCE', '-O1', '-Werror'),
            *(*flags, '-o', str(program), *map(str, LOAD.glob('*.c'))),
            *('-lssl', '-lcrypto', '-lz'),
        ],
        check=True,
    )
    return program


class OddServer(EchoServer):
    """Echoes; one message of each connection goes through `answer`."""

    def __init__(self, answer: Answer | None, to_all: bool, **options: Any):
        super().__init__(**options)
        self.answer = answer
        self.to_all = to_all

    def onopen(self, client: twspy.Connection) -> None:
        client.count = 0  # type: ignore[attr-defined]

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        text = isinstance(message, twspy.TextMessage)
        payload = message.payload
        data = payload.encode() if isinstance(payload, str) else payload
        client.count += 1  # type: ignore[attr-defined]
        answers = [data]
        if self.answer is not None and client.count == WRONG:  # type: ignore[attr-defined]
            answers = self.answer(data)
        for answer in answers:
            reply = answer.decode() if text else answer
            if self.to_all:
                self.broadcast(reply)
            else:
                client.send(reply)


def flip(index: int) -> Answer:
    """Change the lowest bit of one byte: ASCII stays ASCII."""

    def answer(data: bytes) -> list[bytes]:
        changed = bytearray(data)
        changed[index] ^= 1
        return [bytes(changed)]

    return answer


class Outcome:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.told = done.stderr
        self.result = json.loads(done.stdout) if done.stdout else {}


def run(
    load: Path,
    certificates: Certificates,
    *words: str,
    answer: Answer | None = None,
) -> Outcome:
    """Put a server under load; `answer` is what it does wrong."""
    options: dict[str, Any] = {}
    if '--tls' in words:
        options['ssl_args'] = {
            'certfile': certificates.server.certfile,
            'keyfile': certificates.server.keyfile,
        }
    if '--compress' in words:
        options['compression'] = twspy.DeflateMessage()
    with ExitStack() as stack:
        server = stack.enter_context(
            OddServer(answer, 'fanout' in words, max_size=None, **options)
        )
        done = subprocess.run(
            [
                *(load, '--port', str(server.address[1])),
                *('--pid', str(os.getpid()), *SHORT, *words),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * SOON,
        )
    return Outcome(done)


LOADS = {
    'text': ('--connections', '4', '--depth', '4'),
    'binary': ('--content', 'binary', '--size', '70000'),
    'utf8': ('--content', 'utf8', '--size', '4096'),
    'tls': ('--tls', '--size', '20000'),
    'deflate': ('--compress', '--content', 'json', '--size', '1024'),
    'rate': ('--connections', '4', '--rate', '2000', '--depth', '8'),
    'fanout': ('--mode', 'fanout', '--connections', '8', '--size', '128'),
}


@pytest.mark.parametrize('name', LOADS)
def test_right_echoes_are_counted(
    load: Path, certificates: Certificates, name: str
) -> None:
    outcome = run(load, certificates, *LOADS[name])
    assert outcome.told == ''
    assert outcome.status == 0
    result = outcome.result
    assert result['errors'] == 0
    assert result['messages'] > 0
    assert result['server_cpu'] > 0
    assert result['deflated'] == (
        result['messages'] if name == 'deflate' else 0
    )
    latency = result['latency']
    assert 0 < latency['p50'] <= latency['p99'] <= latency['max']


@pytest.mark.parametrize('index', [0, -1], ids=['first', 'last'])
@pytest.mark.parametrize('name', LOADS)
def test_a_flipped_bit_is_found(
    load: Path, certificates: Certificates, name: str, index: int
) -> None:
    outcome = run(load, certificates, *LOADS[name], answer=flip(index))
    assert outcome.status == 1
    assert f'echo {WRONG - 1} differs' in outcome.told
    assert outcome.result['errors'] > 0


@pytest.mark.parametrize(
    'answer',
    [
        lambda data: [data[:-1]],
        lambda data: [data + b'x'],
        lambda data: [b''],
        lambda data: [data, data],
    ],
    ids=['shorter', 'longer', 'empty', 'twice'],
)
@pytest.mark.parametrize('name', ['text', 'binary', 'deflate'])
def test_other_wrong_answers_are_found(
    load: Path, certificates: Certificates, name: str, answer: Answer
) -> None:
    outcome = run(load, certificates, *LOADS[name], answer=answer)
    assert outcome.status == 1
    assert outcome.result['errors'] > 0


@pytest.mark.parametrize('more', [(), ('--tls',), ('--tls', '--resume')])
def test_connections_are_counted(
    load: Path, certificates: Certificates, more: tuple[str, ...]
) -> None:
    outcome = run(
        load,
        certificates,
        *('--mode', 'churn', '--connections', '4', *more),
        *('--seconds', '0.3'),
    )
    assert outcome.told == ''
    assert outcome.status == 0
    result = outcome.result
    assert result['handshakes'] > 0
    assert (result['resumed'] > 0) == ('--resume' in more)


def test_idle_connections_are_held(
    load: Path, certificates: Certificates
) -> None:
    with OddServer(None, False) as server:
        process = subprocess.Popen(
            [
                *(load, '--port', str(server.address[1]), '--mode', 'hold'),
                *('--connections', '50', '--each', '3'),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {'open': 50}
            assert len(server.clients) == 50
            assert process.stdin is not None
            process.stdin.close()
            assert json.loads(process.stdout.readline())['messages'] == 150
        assert process.returncode == 0
