"""A handler forks: what its child may do, and how that ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Program, run_python

# A message is run as Python by a child of the handler; the parent answers with
# the status that the child ends with.
SERVER = """
import os, signal, socket, sys, threading, time
import twspy

class Server(twspy.Server):
    def onmessage(self, client, message):
        if message.payload == 'echo':
            client.send('echo')
            return
        client.sock  # made before, as its hooks would be
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            exec(message.payload)
            return
        status = os.waitpid(child, 0)[1]
        client.send(str(os.waitstatus_to_exitcode(status)))

server = Server(('127.0.0.1', 0), loglevel='ERROR')
"""
CLIENT = """
def talk():
    while 'running' not in repr(server):
        time.sleep(0.001)
    url = 'ws://127.0.0.1:%d' % server.address[1]
    try:
        with twspy.connect(url) as client:
            client.send(sys.argv[1])
            print('status', client.recv(20).payload)
            client.send('echo')
            print(client.recv(20).payload)
    finally:
        server.stop()

thread = threading.Thread(target=talk)
thread.start()
server.run()
thread.join()
"""


def run_child(tmp_path: Path, code: str, program: str = CLIENT) -> Program:
    # From 3.12 on os.fork() warns where there are threads.
    command = ['-W', 'ignore', '-c', SERVER + program, code]
    with run_python(*command, cwd=tmp_path) as running:
        assert running.wait() == 0, running.text
    return running


@pytest.mark.parametrize(
    'use',
    [
        "client.sock.send(twspy.Frame(twspy.OPCODE_TEXT, 'child'))",
        'client.sock.close()',
        'client.sock.__exit__(None, None, None)',
        'client.sock.shutdown(socket.SHUT_RDWR)',
    ],
)
def test_socket_of_the_client_is_the_parents(tmp_path: Path, use: str) -> None:
    code = f'try: {use}\nexcept RuntimeError as e: os._exit(42)'
    program = run_child(tmp_path, code)
    assert program.lines == ['status 42', 'echo']


def test_child_that_returns_is_told(tmp_path: Path) -> None:
    first, *rest = run_child(tmp_path, 'pass').lines
    assert first.startswith('twspy: a child process has returned')
    assert rest == ['status 1', 'echo']


@pytest.mark.parametrize(
    ('given', 'status', 'told'),
    [
        ('', 0, []),
        ('7', 7, []),
        ('True', 1, []),
        ('2 ** 40 + 3', 3, []),  # as of any program
        ("'why'", 1, ['why']),
    ],
)
def test_child_that_exits(
    tmp_path: Path, given: str, status: int, told: list[str]
) -> None:
    program = run_child(tmp_path, f'sys.exit({given})')
    assert program.lines == [*told, f'status {status}', 'echo']


def test_child_ends_though_it_can_not_tell(tmp_path: Path) -> None:
    program = run_child(tmp_path, 'sys.stderr = None')
    assert program.lines[-2:] == ['status 1', 'echo']


def test_child_ends_though_that_is_interrupted(tmp_path: Path) -> None:
    """As by Ctrl-C at the first line of what ends it."""
    program = run_child(
        tmp_path, 'self._runner.end_child = lambda error: 1 / 0'
    )
    assert 'ZeroDivisionError: division by zero' in program.lines
    assert program.lines[-2:] == ['status -9', 'echo']


@pytest.mark.parametrize(
    ('number', 'status'), [('SIGTERM', '-15'), ('SIGINT', '1')]
)
def test_child_is_not_kept_from_signals(
    tmp_path: Path, number: str, status: str
) -> None:
    """run() has taken them in the parent: multiprocessing's terminate()."""
    code = (
        f'os.kill(os.getpid(), signal.{number}); time.sleep(19); os._exit(9)'
    )
    lines = run_child(tmp_path, code).lines
    assert lines[-2:] == [f'status {status}', 'echo']
    assert ('KeyboardInterrupt' in lines) == (number == 'SIGINT')


LEFT_BEHIND = """
go = threading.Event()
ended = threading.Event()
me = os.getpid()

class Slow(Server):
    def onmessage(self, client, message):
        go.wait(20)
        child = os.fork()
        if child == 0:
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print('status', status)
        ended.set()

    def onclose(self, client, message):
        assert os.getpid() == me
        ended.wait(20)

server = Slow(('127.0.0.1', 0), loglevel='CRITICAL', max_join_time=0.1)
server.start()
client = twspy.connect('ws://127.0.0.1:%d' % server.address[1])
client.send('')
while server.stats()['messages_in'] == 0:
    time.sleep(0.001)
server.stop()
go.set()
ended.wait(20)
"""


def test_handler_that_is_left_behind_forks(tmp_path: Path) -> None:
    """The server has ended without it; its child ends all the same."""
    lines = run_child(tmp_path, '', LEFT_BEHIND).lines
    assert lines[-1] == 'status 1'
    assert 'a child process has returned' in lines[0]
