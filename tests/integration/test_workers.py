"""Worker processes: they share a port, are replaced, and end together."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import SOON
from rawpeer import CLOSE, TEXT, RawPeer, close_payload, request

import twspy

# A client is told which process serves it, and says what that shall do.
PROGRAM = """
import atexit, logging, os, signal, sys, threading, time
import twspy

class Server(twspy.Server):
    def onopen(self, client):
        client.send(f'{os.getpid()} {self.worker}')

    def onmessage(self, client, message):
        exec(message.payload)

    def onclose(self, client, message):
        os.write(1, b'close %d\\n' % message.code)

server = Server(('127.0.0.1', 0), max_join_time=30.0, close_timeout=30.0)
atexit.register(print, 'atexit')
print('port', server.address[1])
"""
RUN = """
server.run(workers=3)
print('after', server.worker)
"""


class Parent:
    """A program that runs workers, and leads a process group of its own.

    lines: what all of its processes have written.
    """

    def __init__(self, text: str) -> None:
        self.lines: list[str] = []
        self._written = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, '-c', text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # With a buffer, as some of what is tested is about that.
            env={**os.environ, 'PYTHONUNBUFFERED': ''},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._written:
                self.lines.append(line.rstrip('\n'))
                self._written.notify_all()

    @property
    def text(self) -> str:
        """What was written so far."""
        return '\n'.join(self.lines)

    def find(self, pattern: str, count: int = 1) -> list[Any]:
        """Wait until a pattern was written so many times; what it matched."""
        found: list[Any] = []

        def is_there() -> bool:
            found[:] = re.findall(pattern, self.text)
            return len(found) >= count

        with self._written:
            assert self._written.wait_for(is_there, SOON), self.text
        return found

    @property
    def address(self) -> tuple[str, int]:
        """Where it serves, once all of its workers do."""
        self.find('listening on', 3)
        return '127.0.0.1', int(self.find(r'port (\d+)')[0])

    def wait(self) -> int:
        """Wait for its end, and for that of every process it has started,
        as all of them hold the other end of the pipe; its status."""
        self._thread.join(SOON)
        assert not self._thread.is_alive(), f'not all ended: {self.text}'
        return self.process.wait(SOON)


@contextmanager
def running(text: str) -> Iterator[Parent]:
    parent = Parent(text)
    try:
        yield parent
    finally:
        try:
            os.killpg(parent.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        parent.wait()
        assert parent.process.stdout is not None
        parent.process.stdout.close()


@pytest.fixture
def parent() -> Iterator[Parent]:
    """Three workers."""
    with running(PROGRAM + RUN) as parent:
        yield parent


class Client:
    """A connected client, and the worker that serves it."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address)
            self.peer = RawPeer(sock, SOON)
            self.peer.send(request())
            status, _ = self.peer.read_head()
            assert status == 101
        else:
            self.peer = RawPeer.connect(address)
        pid, worker = self.peer.read_frame().payload.split()
        self.pid, self.worker = int(pid), int(worker)

    def say(self, what: str) -> None:
        self.peer.send_frame(TEXT, what.encode())

    def expect_close(self, code: int = 1001) -> None:
        frame = self.peer.read_frame()
        assert frame.opcode == CLOSE
        assert frame.close_code == code
        self.close(code)

    def close(self, code: int = 1000) -> None:
        self.peer.send_frame(CLOSE, close_payload(code))
        self.peer.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.peer.sock.close()


def connect_to_all(parent: Parent, stack: ExitStack) -> dict[int, Client]:
    """A client of each of the three workers, by the worker's number."""
    clients: dict[int, Client] = {}
    address = parent.address
    deadline = time.monotonic() + SOON
    while len(clients) < 3:
        assert time.monotonic() < deadline, clients
        client = Client(address)
        if client.worker in clients:
            client.close()
        else:
            clients[client.worker] = stack.enter_context(client)
    return clients


def test_workers_share_the_port(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        assert sorted(clients) == [0, 1, 2]
        pids = {client.pid for client in clients.values()}
        assert len(pids) == 3
        assert parent.pid not in pids
        started = parent.find(r'worker (\d) \(pid (\d+)\) started', 3)
        assert {(int(n), int(pid)) for n, pid in started} == {
            (client.worker, client.pid) for client in clients.values()
        }
        # A second server on the port by mistake.
        with pytest.raises(OSError, match='in use'):
            twspy.Server(parent.address)


@pytest.mark.parametrize(
    'given',
    [
        'Server(path, max_join_time=10.0)',
        'Server(sock=sock, max_join_time=10.0)',
    ],
    ids=['unix', 'sock'],
)
def test_workers_accept_from_one_socket(given: str, tmp_path: Path) -> None:
    """Where it can't be bound again, it is inherited."""
    path = tmp_path / 'socket'
    text = (
        PROGRAM
        + f"""
import socket
sock = socket.create_server(('127.0.0.1', 0))
print('port', sock.getsockname()[1])
server.stop()
path = {str(path)!r}
server = {given}
"""
    )
    with running(text + RUN) as parent, ExitStack() as stack:
        parent.find('listening on', 3)
        address: Any = str(path)
        if 'sock=' in given:
            address = '127.0.0.1', int(parent.find(r'port (\d+)', 2)[1])
        clients: dict[int, Client] = {}
        deadline = time.monotonic() + SOON
        while len(clients) < 2:
            assert time.monotonic() < deadline, clients
            client = stack.enter_context(Client(address))
            if client.pid not in clients:
                clients[client.pid] = client
            client.say('time.sleep(0.2)')
        first = clients.pop(min(clients))
        os.kill(first.pid, signal.SIGTERM)
        first.expect_close()
        parent.find('listening on', 4)
        for _ in range(20):
            stack.enter_context(Client(address))
        os.kill(parent.pid, signal.SIGTERM)
        for client in clients.values():
            client.expect_close()
        stack.close()
        assert parent.wait() == 0
        assert os.listdir(tmp_path) == []


def test_nobody_listens_when_all_workers_are_gone(parent: Parent) -> None:
    """The parent keeps the port, but clients are not left to wait in vain."""
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        address = parent.address
        for client in clients.values():
            os.kill(client.pid, signal.SIGSTOP)
        os.kill(parent.pid, signal.SIGSTOP)
        for client in clients.values():
            os.kill(client.pid, signal.SIGKILL)
        for client in clients.values():
            with pytest.raises((EOFError, ConnectionError)):
                client.peer.read_frame()
        deadline = time.monotonic() + SOON
        number = 0
        while number != errno.ECONNREFUSED:
            assert time.monotonic() < deadline, os.strerror(number)
            with socket.socket() as sock:
                sock.settimeout(1.0)
                number = sock.connect_ex(address)
        os.kill(parent.pid, signal.SIGCONT)
        parent.find('listening on', 6)
        Client(address).close()


def test_killed_worker_is_replaced(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        old = clients.pop(1)
        os.kill(old.pid, signal.SIGKILL)
        killed = time.monotonic()
        line = rf'ERROR twspy.server: worker 1 \(pid {old.pid}\) was ended by '
        parent.find(line + r'SIGKILL: a new one starts in 0\.1 s')
        (_, pid) = parent.find(r'worker (1) \(pid (\d+)\) started', 2)[-1]
        parent.find('listening on', 4)
        assert time.monotonic() - killed < 2.0
        assert int(pid) != old.pid
        # The others have not noticed.
        for client in clients.values():
            client.say(f'client.send("{client.worker}")')
            assert client.peer.read_frame().payload == b'%d' % client.worker
        again = connect_to_all(parent, stack)
        assert again[1].pid == int(pid)
        assert again[0].pid == clients[0].pid


def test_ctrl_c_is_for_the_parent_to_decide(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        for client in clients.values():
            os.kill(client.pid, signal.SIGINT)
            client.say('client.send("still here")')
            assert client.peer.read_frame().payload == b'still here'


@pytest.mark.parametrize('group', [True, False], ids=['group', 'parent'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_all_gracefully(
    parent: Parent, number: int, group: bool
) -> None:
    """To the group, as a terminal and a service manager send it."""
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        (os.killpg if group else os.kill)(parent.pid, number)
        for client in clients.values():
            client.expect_close()
        assert parent.wait() == 0
    assert parent.lines.count('close 1001') == 3, parent.text
    assert len(parent.find(r'worker \d \(pid \d+\) has ended')) == 3
    # Each once, and in the parent only.
    for line in 'after None', 'atexit':
        assert parent.lines.count(line) == 1, parent.text
    assert len(parent.find(r'port \d+')) == 1
    for word in 'Traceback', 'Warning', 'WARNING', 'ERROR', 'a new one':
        assert word not in parent.text


def test_second_signal_ends_all_at_once(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        clients[0].say('os.write(1, b"busy\\n"); time.sleep(60)')
        parent.find('busy')
        os.killpg(parent.pid, signal.SIGINT)
        for worker in 1, 2:
            # It does not answer.
            assert clients[worker].peer.read_frame().close_code == 1001
        began = time.monotonic()
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait() == 0
        assert time.monotonic() - began < 6.0
    assert parent.lines.count('close 1006') == 2, parent.text
    assert parent.lines.count('after None') == 1


def test_workers_end_with_their_parent(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        # The new one has inherited what the parent had for the others.
        os.kill(clients[1].pid, signal.SIGKILL)
        parent.find('listening on', 4)
        clients.pop(1)
        new = int(parent.find(r'worker 1 \(pid (\d+)\) started', 2)[-1])
        os.kill(new, signal.SIGSTOP)
        os.kill(parent.pid, signal.SIGKILL)
        for client in clients.values():
            client.expect_close()
        os.kill(new, signal.SIGCONT)
        assert parent.wait() == -signal.SIGKILL
    assert len(parent.find('its parent is gone')) == 3
    assert 'after' not in parent.text
    assert 'atexit' not in parent.text


def test_terminated_worker_is_replaced(parent: Parent) -> None:
    """To have a fresh one, without a break for the others."""
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        os.kill(clients[2].pid, signal.SIGTERM)
        clients[2].expect_close()
        parent.find(r'INFO .*worker 2 .* has ended: a new one starts')
        parent.find('listening on', 4)
        assert connect_to_all(parent, stack)[2].pid != clients[2].pid


def test_second_sigterm_aborts_a_worker(parent: Parent) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        os.kill(clients[2].pid, signal.SIGTERM)
        # It does not answer.
        assert clients[2].peer.read_frame().close_code == 1001
        os.kill(clients[2].pid, signal.SIGTERM)
        parent.find('close 1006')
        parent.find(r'worker 2 .* has ended: a new one starts')


@pytest.mark.parametrize(
    ('what', 'status', 'said'),
    [
        ('self.stop()', 0, 'after None'),
        ('sys.exit()', 0, ''),
        ('sys.exit(7)', 7, ''),
        ('sys.exit("why")', 1, 'why'),
    ],
)
def test_handler_that_stops_one_stops_all(
    parent: Parent, what: str, status: int, said: str
) -> None:
    with ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        clients[1].say(what)
        for worker in 1, 0, 2:  # the others when that one has ended
            clients[worker].expect_close()
        assert parent.wait() == status
    assert ('after None' in parent.lines) == (said == 'after None')
    assert said in parent.text
    assert parent.lines.count('atexit') == 1


def test_stop_in_the_parent_stops_all_with_its_code() -> None:
    handler = (
        'signal.signal(signal.SIGHUP, '
        "lambda *args: server.stop(1012, 'back soon'))\n"
    )
    with running(PROGRAM + handler + RUN) as parent, ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        os.kill(parent.pid, signal.SIGHUP)
        for client in clients.values():
            frame = client.peer.read_frame()
            assert frame.close_code == 1012
            assert frame.close_reason == 'back soon'
            client.close(1012)
        assert parent.wait() == 0
        assert 'after None' in parent.lines


def test_exception_of_a_signal_handler_ends_all_gracefully() -> None:
    handler = """
def interrupt(number, frame):
    raise ValueError('from a handler')
signal.signal(signal.SIGTERM, interrupt)
"""
    with running(PROGRAM + handler + RUN) as parent, ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        os.kill(parent.pid, signal.SIGTERM)
        for client in clients.values():
            client.expect_close()
        assert parent.wait() == 1
        assert parent.lines[-2:] == ['ValueError: from a handler', 'atexit']


def test_worker_that_does_not_end_is_killed() -> None:
    text = PROGRAM.replace('max_join_time=30.0', 'max_join_time=0.2') + RUN
    with running(text) as parent, ExitStack() as stack:
        clients = connect_to_all(parent, stack)
        os.kill(clients[0].pid, signal.SIGSTOP)
        clients[1].say('os.write(1, b"busy\\n"); time.sleep(60)')
        parent.find('busy')
        os.kill(parent.pid, signal.SIGTERM)
        assert parent.wait() == 0
        pid = clients[0].pid
        parent.find(rf'worker 0 \(pid {pid}\) has not ended 2\.\d s after')
        parent.find(rf'worker 0 \(pid {pid}\) was ended by SIGKILL')
        assert len(parent.find('has not ended')) == 1, parent.text
        # run() tells why, and leaves the handler behind.
        parent.find('not returned within')


CRASH = """
class Crash(Server):
    def start(self):
        super().start()
        if self.worker == 1:
            threading.Timer(0.05, os._exit, [3]).start()
        return self
server.__class__ = Crash
"""


def test_crashes_in_a_row_are_restarted_slower_and_slower() -> None:
    with running(PROGRAM + CRASH + RUN) as parent:
        delays = parent.find(
            r'worker 1 \(pid \d+\) has ended with status 3: a new one starts '
            r'in (\S+) s',
            4,
        )
        assert delays[:4] == ['0.1', '0.2', '0.4', '0.8']
        with Client(parent.address) as client:
            os.kill(parent.pid, signal.SIGTERM)
            client.expect_close()
        assert parent.wait() == 0


def test_delay_is_bounded_and_forgotten() -> None:
    from twspy._workers import _Worker

    worker = _Worker(0)
    worker.started = 100.0
    delays = [worker.delay_start(100.1) for _ in range(9)]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[5:] == [3.2, 5.0, 5.0, 5.0]
    assert worker.due == 105.1
    assert worker.delay_start(110.0) == 0.1
    assert worker.due == 110.1


@pytest.mark.parametrize(
    ('failing', 'why'),
    [
        ("raise OSError(98, 'taken')", 'OSError: [Errno 98] taken'),
        ('os._exit(5)', 'it has ended with status 5'),
        ('os.kill(os.getpid(), 9)', 'it was ended by SIGKILL'),
    ],
)
def test_gives_up_where_none_can_serve(failing: str, why: str) -> None:
    fail = f"""
class Fail(Server):
    def start(self):
        {failing}
server.__class__ = Fail
"""
    with running(PROGRAM + fail + RUN) as parent:
        assert parent.wait() == 1
        last = 'RuntimeError: none of 3 workers could serve; the last one '
        assert parent.lines[-2:] == [f'{last}failed: {why}', 'atexit']
        assert 'after' not in parent.text
        if 'OSError' in failing:
            assert len(parent.find(r'worker \d \(pid \d+\) failed')) >= 3


def test_one_that_cannot_serve_does_not_end_the_others() -> None:
    fail = """
class Fail(Server):
    def start(self):
        if self.worker == 1:
            raise ValueError('not me')
        return super().start()
server.__class__ = Fail
"""
    with running(PROGRAM + fail + RUN) as parent:
        parent.find(r'worker 1 \(pid \d+\) failed', 3)
        parent.find('listening on', 2)
        port = int(parent.find(r'port (\d+)')[0])
        with Client(('127.0.0.1', port)) as client:
            os.kill(parent.pid, signal.SIGTERM)
            client.expect_close()
        assert parent.wait() == 0


def test_fork_that_fails_is_tried_again() -> None:
    fail = """
forks = []
def fork(fork=os.fork):
    forks.append(None)
    if len(forks) == 2:
        raise BlockingIOError(11, 'no more processes')
    return fork()
os.fork = fork
"""
    with running(PROGRAM + fail + RUN) as parent, ExitStack() as stack:
        connect_to_all(parent, stack)
        parent.find(
            r'no process for worker 1: \[Errno 11\] no more processes; '
            r'next try in 0\.1 s'
        )


def test_other_children_of_the_program_are_left_alone() -> None:
    child = """
import subprocess
child = subprocess.Popen(['/bin/sh', '-c', 'exit 9'])
"""
    after = 'print("child", child.wait())\n'
    with running(PROGRAM + child + RUN + after) as parent:
        parent.find('listening on', 3)
        os.kill(parent.pid, signal.SIGTERM)
        assert parent.wait() == 0
        assert 'child 9' in parent.lines


def test_signals_are_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    look = """
def look():
    names = 'SIGINT', 'SIGTERM', 'SIGCHLD'
    print([signal.getsignal(getattr(signal, name)) for name in names])
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
    print(signal.set_wakeup_fd(-1), sorted(os.listdir('/proc/self/fd')))
look()
"""
    with running(PROGRAM + look + RUN + 'look()\n') as parent:
        parent.find('listening on', 3)
        os.kill(parent.pid, signal.SIGTERM)
        assert parent.wait() == 0
        before, after = parent.find(r'\[<.*\n.*\n', 2)
        assert parent.lines.index('after None') > 0
        # All that run() has opened is closed, and so is the server's socket.
        assert before.splitlines()[:2] == after.splitlines()[:2]
        fds = parent.find(r"-1 \[('.*')\]", 2)
        assert fds[1].count(',') == fds[0].count(',') - 1, fds


def test_port_is_shared_with_workers_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = []

    def is_shared() -> bool:
        option = socket.SOL_SOCKET, socket.SO_REUSEPORT
        return bool(server._runner.listener.sock.getsockopt(*option))

    monkeypatch.setattr(
        'twspy._workers.Workers.run', lambda self: shared.append(is_shared())
    )
    monkeypatch.setattr('threading.active_count', lambda: 1)
    server = twspy.Server(('127.0.0.1', 0))
    assert not is_shared()
    server.run(workers=2)
    assert shared == [True]


@pytest.mark.parametrize('workers', [1.0, '2', True, b''])
def test_workers_is_a_number(workers: Any) -> None:
    server = twspy.Server(('127.0.0.1', 0))
    with pytest.raises(TypeError, match='workers is'):
        server.run(workers=workers)
    server.stop()


@pytest.mark.parametrize('workers', [0, -1])
def test_workers_is_at_least_one(workers: int) -> None:
    server = twspy.Server(('127.0.0.1', 0))
    with pytest.raises(ValueError, match=f'workers is {workers}, .* 1'):
        server.run(workers=workers)
    assert server.worker is None
    server.stop()


def run_python(text: str) -> str:
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM + text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SOON,
    )
    return done.stdout


def test_threads_are_refused() -> None:
    out = run_python("""
thread = threading.Thread(target=time.sleep, args=(1.0,), name='other')
thread.start()
server.run(workers=2)
""")
    assert 'RuntimeError: run(workers=...) forks' in out
    assert "'other'" in out


@pytest.mark.parametrize('before', ['server.start(); ', ''])
def test_server_that_has_run_is_refused(before: str) -> None:
    out = run_python(f'{before}server.stop()\nserver.run(workers=2)')
    assert 'RuntimeError: the server is running or has run' in out


def test_system_without_fork_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, 'fork')
    server = twspy.Server(('127.0.0.1', 0))
    with pytest.raises(RuntimeError, match='leave workers out'):
        server.run(workers=2)
    server.stop()


def test_one_worker_is_a_process_of_its_own() -> None:
    with running(PROGRAM + RUN.replace('3', '1')) as parent:
        parent.find('listening on')
        port = int(parent.find(r'port (\d+)')[0])
        with Client(('127.0.0.1', port)) as client:
            assert client.pid != parent.pid
            assert client.worker == 0
            os.kill(parent.pid, signal.SIGTERM)
            client.expect_close()
        assert parent.wait() == 0
