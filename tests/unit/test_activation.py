"""Sockets that a service manager has passed: `listen_fds()`, `Server()`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import twspy


def bound(name: object, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(name)  # type: ignore[arg-type]
    return sock


# Run as a child: its pid is only known there. Pipes and sockets are moved to
# the descriptors from 3 on, which the interpreter does not use by then.
ACTIVATED = """
import os, socket, sys
numbers = eval(sys.argv[1])
for i, number in enumerate(numbers):
    os.dup2(number, 100 + i)
os.closerange(3, 100)
for i, number in enumerate(numbers):
    os.dup2(100 + i, 3 + i)
os.closerange(100, 200)
os.environ.setdefault('LISTEN_PID', str(os.getpid()))
import twspy
"""


def activate(
    program: str, *socks: socket.socket | int, **variables: str
) -> str:
    """Run a program that has been passed the sockets; what it prints."""
    numbers = [s if isinstance(s, int) else s.fileno() for s in socks]
    done = subprocess.run(
        [sys.executable, '-c', ACTIVATED + program, repr(numbers)],
        pass_fds=numbers,
        env=os.environ
        | {'LISTEN_FDS': str(len(socks)), 'LISTEN_FDNAMES': 'x:y'}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_listen_fds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = """
socks = twspy.listen_fds()
print([(s.fileno(), s.family.name, s.type.name) for s in socks])
print([s.getsockname()[:2] for s in socks])
print([s.get_inheritable() for s in socks])
print([name for name in os.environ if name.startswith('LISTEN_')])
print(twspy.listen_fds())
"""
    with (
        bound(('127.0.0.1', 0)) as one,
        bound(('::1', 0), socket.AF_INET6) as two,
        bound('./s', socket.AF_UNIX) as three,
    ):
        expected = [
            [
                (3, 'AF_INET', 'SOCK_STREAM'),
                (4, 'AF_INET6', 'SOCK_STREAM'),
                (5, 'AF_UNIX', 'SOCK_STREAM'),
            ],
            [one.getsockname(), two.getsockname()[:2], './'],
            [False] * 3,
            [],
            [],
        ]
        found = activate(program, one, two, three)
    assert found.splitlines() == [str(line) for line in expected]


@pytest.mark.parametrize(
    'variables',
    [{'LISTEN_PID': '1'}, {'LISTEN_FDS': '0'}, {'LISTEN_FDS': ''}],
)
def test_nothing_was_passed(variables: dict[str, str]) -> None:
    program = """
print(twspy.listen_fds())
print(os.fstat(3) is not None)
try:
    twspy.Server()
except TypeError as error:
    print(error)
"""
    with bound(('127.0.0.1', 0)) as sock:
        found = activate(program, sock, **variables).splitlines()
    assert found[:2] == ['[]', 'True']
    assert 'LISTEN_FDS' in found[2]


def test_nothing_was_passed_here() -> None:
    assert 'LISTEN_FDS' not in os.environ
    assert twspy.listen_fds() == []
    with pytest.raises(TypeError, match='neither address nor sock'):
        twspy.Server()


def test_wrong_variables() -> None:
    program = """
try:
    twspy.listen_fds()
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
print(os.fstat(3) is not None, 'LISTEN_FDS' in os.environ)
"""
    reader, writer = os.pipe()
    with bound(('127.0.0.1', 0)) as sock:
        for passed, variables, expected in (
            ([sock], {'LISTEN_FDS': 'x'}, "ValueError LISTEN_FDS is 'x'"),
            ([sock], {'LISTEN_FDS': '-1'}, "ValueError LISTEN_FDS is '-1'"),
            ([sock], {'LISTEN_PID': '²'}, "ValueError LISTEN_PID is '²'"),
            ([sock], {'LISTEN_FDS': '2'}, 'descriptor 4 is unusable: Bad'),
            ([sock, reader], {}, 'descriptor 4 is unusable: Socket'),
        ):
            found = activate(program, *passed, **variables).splitlines()
            assert expected in found[0]
            assert found[1] == 'True True'
    os.close(reader)
    os.close(writer)


def test_server_takes_the_one_that_was_passed() -> None:
    program = """
server = twspy.Server()
print(server.address[1])
server.stop()
try:
    os.fstat(3)
except OSError as error:
    print(error.strerror)
"""
    with bound(('127.0.0.1', 0)) as sock:
        found = activate(program, sock).splitlines()
        assert found == [str(sock.getsockname()[1]), 'Bad file descriptor']


def test_server_does_not_choose() -> None:
    program = """
try:
    twspy.Server()
except ValueError as error:
    print(error)
for sock in twspy.listen_fds():
    server = twspy.Server(sock=sock)
    print(server.address[1])
    server.stop()
"""
    with (
        bound(('127.0.0.1', 0)) as one,
        bound(('127.0.0.1', 0)) as two,
    ):
        found = activate(program, one, two).splitlines()
        assert 'passed 2 sockets' in found[0]
        ports = [str(sock.getsockname()[1]) for sock in (one, two)]
        assert found[1:] == ports


def test_connection_was_passed() -> None:
    program = """
try:
    twspy.Server()
except ValueError as error:
    print(error)
"""
    one, two = socket.socketpair()
    with one, two:
        assert 'sock is connected' in activate(program, one)
