"""The thread that stands in for an engine without `ssl.SSLContext`: what it
takes, its life, forks, the end of the process."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from certificates import HOST
from programs import ROOT, run_python
from rawends import tcp_pair
from tlsends import (
    SOON,
    Ends,
    HandPeer,
    Maker,
    check_rest,
    cpu_time,
    fill,
    read_all,
    streams,
    thread_of,
    wait_until,
)

from twspy import _tls_bridge
from twspy._tls_stream import Stream


def runs() -> bool:
    """Whether the thread is there."""
    return any(each.name == 'twspy-tls' for each in threading.enumerate())


def sockets() -> int:
    """How many this process has open."""
    count = 0
    for name in os.listdir('/proc/self/fd'):
        try:
            count += os.readlink(f'/proc/self/fd/{name}').startswith('socket')
        except FileNotFoundError:  # that of listdir()
            pass
    return count


def exchange(ends: Ends) -> None:
    """A few bytes each way."""
    ends.peer.sendall(b'ping')
    assert ends.plain.recv(100) == b'ping'
    ends.plain.sendall(b'pong')
    assert ends.peer.recv(100) == b'pong'


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread does not stay for long."""
    monkeypatch.setattr(_tls_bridge, '_IDLE', 0.05)
    wait_until(lambda: not runs())


# What it takes


def test_plain_end_is_as_an_engine_wants_it(make: Maker) -> None:
    bridged, _ = make.start()
    fd = bridged.detach()
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    with socket.socket(fileno=fd) as plain:
        assert plain.type == socket.SOCK_STREAM
    assert bridged.detach() == -1


@pytest.mark.parametrize('as_number', [False, True])
def test_socket_is_taken(dial: Maker, as_number: bool) -> None:
    one, two = tcp_pair()
    with two:
        bridged = _tls_bridge.start(
            dial.client_context,
            one.detach() if as_number else one,
            server_side=False,
            server_hostname=HOST,
        )
        assert one.fileno() == -1
        HandPeer(two, dial.server_context, True).handshake()
        wait_until(lambda: bridged.handshake_done)
        bridged.close()


def test_start_does_not_wait(serve: Maker) -> None:
    """Not even for the thread, which may be at something."""
    with _tls_bridge._turn:
        bridged, _ = serve.start()
        assert not bridged.handshake_done


def test_records_leave_at_once(serve: Maker) -> None:
    one, two = tcp_pair()
    with two:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        bridged = _tls_bridge.start(
            serve.server_context, one, server_side=True
        )
        [stream] = streams()
        assert stream.tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        bridged.close()


def test_unix_sockets_are_taken(serve: Maker) -> None:
    one, two = socket.socketpair()
    with two:
        bridged = _tls_bridge.start(
            serve.server_context, one, server_side=True
        )
        peer = HandPeer(two, serve.client_context, False).handshake()
        ends = Ends(bridged, peer)
        with ends:
            exchange(ends)


def test_only_contexts_are_taken() -> None:
    one, two = tcp_pair()
    with one, two:
        with pytest.raises(TypeError, match=r'str, expected an ssl\.SSLCont'):
            _tls_bridge.start('cert.pem', one, server_side=True)  # type: ignore[arg-type]
        one.getpeername()  # it is still ours


@pytest.mark.parametrize('as_number', [False, True])
def test_context_that_does_not_fit(dial: Maker, as_number: bool) -> None:
    one, two = tcp_pair()
    with one, two:
        sock = one.fileno() if as_number else one
        before = sockets()
        for name in (None, ''):
            with pytest.raises(ValueError, match='server_hostname'):
                _tls_bridge.start(
                    dial.client_context,
                    sock,
                    server_side=False,
                    server_hostname=name,
                )
        with pytest.raises(ValueError, match='server_hostname'):
            _tls_bridge.start(
                dial.server_context,
                sock,
                server_side=True,
                server_hostname=HOST,
            )
        with pytest.raises(ssl.SSLError, match='PROTOCOL_TLS_CLIENT'):
            _tls_bridge.start(dial.client_context, sock, server_side=True)
        one.getpeername()
        assert sockets() == before


def test_context_that_checks_no_name(dial: Maker) -> None:
    dial.client_context.check_hostname = False
    exchange(dial.connect(server_hostname=None))


def test_closed_socket(serve: Maker) -> None:
    with socket.socket() as sock:
        pass
    with pytest.raises(OSError, match='sock is closed'):
        _tls_bridge.start(serve.server_context, sock, server_side=True)


def test_no_more_threads(
    serve: Maker, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one, two = tcp_pair()
    with one, two:
        before = sockets()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', start)
            with pytest.raises(RuntimeError, match="can't start"):
                _tls_bridge.start(serve.server_context, one, server_side=True)
        assert sockets() == before
        one.getpeername()
    exchange(serve.connect())


# Many


def test_hundred_connections(make: Maker) -> None:
    made = [make.connect() for _ in range(100)]
    assert len(streams()) == 100
    for ends in made:
        exchange(ends)
    for ends in made:
        ends.peer.sendall(b'ping')
    for ends in made:
        assert ends.plain.recv(100) == b'ping'
    check_rest()
    for ends in made[::2]:
        ends.plain.close()
        assert read_all(ends.peer) == b''
        ends.peer.close()
    wait_until(lambda: len(streams()) == 50)
    exchange(made[1])


def test_hundred_silent_peers(make: Maker) -> None:
    for _ in range(100):
        make.start(open_timeout=60)
    ends = make.connect()
    exchange(ends)
    check_rest()


def test_fast_connection_does_not_hold_up_others(serve: Maker) -> None:
    flood, other = serve.connect(), serve.connect()
    done = threading.Event()

    def send() -> None:
        data = bytes(1 << 20)
        while not done.is_set():
            flood.peer.sendall(data)
        flood.peer.unwrap()

    def receive() -> None:
        while flood.plain.recv(1 << 20):
            pass
        flood.plain.shutdown(socket.SHUT_WR)

    with thread_of(send), thread_of(receive):
        try:
            for _ in range(50):
                exchange(other)
        finally:
            done.set()


def test_timers_of_the_past_do_not_pile_up(serve: Maker) -> None:
    kept = serve.connect()
    for _ in range(200):
        serve.start(open_timeout=1000)[0].close()
    bridge = _tls_bridge._bridge
    assert bridge is not None

    def is_tidy() -> bool:
        """They are looked at with each new one."""
        serve.start(open_timeout=1000)[0].close()
        return len(bridge._timers) < 100

    wait_until(is_tidy)
    exchange(kept)


def test_without_epoll(
    make: Maker, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr('select.epoll')
    ends, other = make.connect(), make.connect(by_hand=True)
    exchange(ends)
    check_rest()
    ends.plain.shutdown(socket.SHUT_WR)
    assert read_all(ends.peer) == b''
    check_rest()
    ends.plain.close()
    ends.peer.close()
    wait_until(lambda: len(streams()) == 1)
    bridged, _ = make.start(open_timeout=0.1)
    wait_until(lambda: bridged.error)
    exchange(other)


# The thread


def test_thread_comes_and_goes(make: Maker, brief: None) -> None:
    for _ in range(3):
        assert not runs()
        ends = make.connect()
        assert runs()
        exchange(ends)
        ends.close()
        wait_until(lambda: not runs())
        assert _tls_bridge._bridge is None


def test_thread_stays_for_the_next(serve: Maker) -> None:
    serve.connect().close()
    before = _tls_bridge._bridge
    serve.connect()
    assert _tls_bridge._bridge is before


def test_nothing_stays_open(serve: Maker, brief: None) -> None:
    before = sockets()
    for _ in range(5):
        ends = serve.connect()
        exchange(ends)
        ends.close()
    wait_until(lambda: not runs())
    assert sockets() == before


def test_unexpected_failure_is_of_one_connection(
    make: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    victim, other = make.connect(), make.connect()
    victim.plain.sendall(b'which')
    assert victim.peer.recv(100) == b'which'
    [stream] = [
        each
        for each in streams()
        if each.tcp.getsockname() == victim.peer.getpeername()
    ]
    turn = Stream.turn

    def fail(self: Stream, *events: int) -> bool:
        if self is stream:
            raise ZeroDivisionError('so it goes')
        return turn(self, *events)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, 'turn', fail)
        with caplog.at_level(logging.ERROR, 'twspy'):
            victim.plain.sendall(b'x')
            assert victim.plain.recv(1) == b''
        exchange(other)
    assert isinstance(victim.bridged.error, ZeroDivisionError)
    [record] = caplog.records
    assert record.name == 'twspy'
    assert record.getMessage() == 'a TLS connection failed'


def test_failure_of_the_thread(
    serve: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = serve.connect()

    def fail(self: Any, seconds: float | None) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(_tls_bridge._Poller, 'wait', fail)
        with caplog.at_level(logging.ERROR, 'twspy'):
            ends.peer.sendall(b'x')
            assert read_all(ends.plain) in (b'', b'x')
            wait_until(lambda: not runs())
    assert isinstance(ends.bridged.error, RuntimeError)
    assert [each.getMessage() for each in caplog.records] == [
        'the thread for TLS connections failed'
    ]
    exchange(serve.connect())  # by another one


def test_callbacks_of_the_context(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = []
    monkeypatch.setattr(sys, 'unraisablehook', caught.append)

    def callback(*args: object) -> None:
        raise ZeroDivisionError

    serve.server_context.sni_callback = callback
    bridged, theirs = serve.start()
    peer = HandPeer(theirs, serve.client_context, False)
    with pytest.raises(ssl.SSLError, match='ALERT'):
        peer.handshake()
    assert isinstance(bridged.error, ssl.SSLError)
    assert [each.exc_type for each in caught] == [ZeroDivisionError]
    caught.clear()
    serve.server_context.sni_callback = None
    exchange(serve.connect())


# The end of the process


def test_finish_waits_for_what_was_sent(make: Maker) -> None:
    ends = make.connect(small=True)
    data = bytes(150_000)
    received = []
    with thread_of(lambda: received.append(len(read_all(ends.peer)))):
        ends.plain.sendall(data)
        ends.plain.close()
        _tls_bridge.finish(SOON)
        assert not any(stream.unsent for stream in streams())
    assert received == [len(data)]


def test_finish_does_not_wait_for_the_idle(make: Maker) -> None:
    ends = make.connect()
    make.start()
    before = cpu_time()
    _tls_bridge.finish(1000)
    assert cpu_time() - before < 1
    exchange(ends)


def test_finish_has_a_bound(make: Maker) -> None:
    ends = make.connect(small=True)
    fill(ends.plain)
    _tls_bridge.finish(0.1)
    [stream] = streams()
    assert stream.unsent


def test_finish_without_anything(brief: None) -> None:
    _tls_bridge.finish(1000)


PROLOGUE = """
import os, socket, sys, threading, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import twspy
from certificates import Certificates
from tempfile import TemporaryDirectory
from tlsends import Maker, read_all, read_exactly, wait_until
from twspy import _tls_bridge

with TemporaryDirectory(dir='.') as directory:
    make = Maker(Certificates(Path(directory)), {role!r})
"""


def script(tmp_path: Path, text: str, role: str = 'server') -> Path:
    """A program that has what makes connections."""
    path = tmp_path / 'script.py'
    prologue = PROLOGUE.format(tests=str(ROOT / 'tests'), role=role)
    path.write_text(prologue + textwrap.dedent(text))
    return path


def run_script(tmp_path: Path, text: str, role: str = 'server') -> str:
    """What a program has printed, on both outputs, when it is over."""
    path = script(tmp_path, text, role)
    with run_python('-X', 'dev', '-W', 'ignore', path, cwd=tmp_path) as run:
        assert run.wait() == 0, run.text
        return run.text


def test_process_ends_after_it_has_sent_everything(tmp_path: Path) -> None:
    """Another process reads: this one ends as soon as it has closed."""
    text = """
    from tlsends import HandPeer, tcp_pair
    ours, theirs = tcp_pair()
    sys.stdout.flush()
    if os.fork() == 0:
        ours.close()
        peer = HandPeer(theirs, make.client_context, False).handshake()
        print(len(read_all(peer)), flush=True)
        os._exit(0)
    theirs.close()
    bridged = _tls_bridge.start(make.server_context, ours, server_side=True)
    wait_until(lambda: bridged.handshake_done)
    plain = socket.socket(fileno=bridged.detach())
    plain.settimeout(20)
    data = bytes(180_000)
    with _tls_bridge._turn:  # the thread has done nothing yet
        sent = plain.send(data)
        plain.close()
    print(sent, flush=True)
    """
    lines = run_script(tmp_path, text).split()
    assert len(lines) == 2
    assert lines[0] == lines[1]


@pytest.mark.parametrize('role', ['server', 'client'])
def test_process_ends_while_there_is_traffic(
    tmp_path: Path, role: str
) -> None:
    text = """
    made = [make.connect() for _ in range(5)]

    def send(ends):
        while True:
            ends.peer.sendall(bytes(10000))

    def receive(ends):
        while ends.plain.recv(65536):
            pass

    for ends in made:
        for function in (send, receive):
            threading.Thread(
                target=function, args=[ends], daemon=True
            ).start()
    make.start()
    time.sleep(0.2)
    """
    for _ in range(3):
        assert run_script(tmp_path, text, role) == ''


def test_process_ends_at_rest(tmp_path: Path) -> None:
    text = """
    ends = make.connect()
    ends.peer.sendall(b'x')
    read_exactly(ends.plain, 1)
    """
    assert run_script(tmp_path, text) == ''


# Forks


FORK = """
def sockets():
    names = [f'/proc/self/fd/{name}' for name in os.listdir('/proc/self/fd')]
    return sum(os.readlink(name).startswith(('socket', 'pipe', 'anon_inode'))
               for name in names if os.path.exists(name))

made = [make.connect(by_hand=True) for _ in range(3)]
waiting = make.start()
for ends in made:
    ends.plain.sendall(b'x')  # which comes behind tickets, say
    assert ends.peer.recv(1) == b'x'
wait_until(lambda: not _tls_bridge._bridge.newcomers)
streams = set(_tls_bridge._bridge._streams.values())
before = sockets()
"""


def test_child_has_nothing_of_it(tmp_path: Path) -> None:
    text = """
    pid = os.fork()
    if pid == 0:
        ours = 2 * len(streams) + 3  # the thread's epoll and its pipe
        print(before - sockets() - ours, 'stay open')
        print(_tls_bridge._bridge, threading.active_count())
        for ends in made:  # our copies of what is not the thread's
            ends.close()
        waiting[0].close(), waiting[1].close()
        ends = make.connect()  # by a thread of the child
        ends.peer.sendall(b'in the child')
        print(read_exactly(ends.plain, 12), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    for ends in made:
        ends.peer.sendall(b'in the parent')
        assert read_exactly(ends.plain, 13) == b'in the parent'
        ends.plain.sendall(b'and back')
        ends.plain.close()
        assert read_all(ends.peer) == b'and back'
        ends.peer.close()
    print('good')
    """
    assert run_script(tmp_path, FORK + textwrap.dedent(text)).splitlines() == [
        '0 stay open',
        'None 1',
        "b'in the child'",
        'good',
    ]


def test_forks_while_there_is_traffic(tmp_path: Path) -> None:
    text = """
    def echo(plain):
        while data := plain.recv(65536):
            plain.sendall(data)
        plain.shutdown(socket.SHUT_WR)

    def talk(peer):
        for number in range(100):
            peer.sendall(b'%06d' % number * 1000)
            assert read_exactly(peer, 6000) == b'%06d' % number * 1000
        peer.notify()
        assert peer.recv(1) == b''
        print('good', flush=True)

    threads = [threading.Thread(target=target, args=[argument])
               for ends in made
               for target, argument in ((echo, ends.plain), (talk, ends.peer))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pid = os.fork()
        if pid == 0:
            os._exit(any(stream.tcp.fileno() >= 0 for stream in streams))
        assert os.waitpid(pid, 0)[1] == 0
    """
    text = FORK + textwrap.dedent(text)
    assert run_script(tmp_path, text).splitlines() == ['good'] * 3


@pytest.fixture
def no_leak_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak sanitizer looks for all of a process's threads, and in a child
    of fork() there is but one."""
    options = os.environ.get('ASAN_OPTIONS', '')
    monkeypatch.setenv('ASAN_OPTIONS', f'{options}:detect_leaks=0')


@pytest.mark.usefixtures('no_leak_check')
def test_child_ends_without_a_word_to_the_peers(tmp_path: Path) -> None:
    text = """
    pid = os.fork()
    if pid == 0:
        sys.exit()  # with all that belongs to it
    assert os.waitpid(pid, 0)[1] == 0
    for ends in made:
        ends.peer.sock.settimeout(0.1)
        try:
            print(ends.peer.sock.recv(1))
        except TimeoutError:
            pass
    """
    assert run_script(tmp_path, FORK + textwrap.dedent(text)) == ''


@pytest.mark.usefixtures('no_leak_check')
def test_callback_forks(tmp_path: Path) -> None:
    """On the bridge's own thread, that is."""
    text = """
    pids = []

    def callback(*args):
        pids.append(os.fork())

    make.server_context.sni_callback = callback
    ends = make.connect()
    assert os.waitpid(pids[0], 0)[1] == 0
    ends.peer.sendall(b'in the parent')
    assert read_exactly(ends.plain, 13) == b'in the parent'
    """
    assert run_script(tmp_path, text) == ''
