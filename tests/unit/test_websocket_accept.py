"""websocket.accept(): the server's side of the opening handshake."""

import errno
import itertools
import logging
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rawends import text_of
from rawpeer import TEXT, RawPeer, pack, request

import twspy
from twspy import Frame


def listening(
    address: Any = ('127.0.0.1', 0),
    type_: type[twspy.websocket] = twspy.websocket,
    **options: Any,
) -> twspy.websocket:
    sock = type_(**options)
    sock.bind(address)
    sock.listen()
    sock.settimeout(10)
    return sock


@pytest.fixture
def listener() -> Iterator[twspy.websocket]:
    with listening() as sock:
        yield sock


def connect(listener: twspy.websocket, *what: bytes) -> RawPeer:
    """A peer that has said something, which waits at the listener."""
    peer = RawPeer.open(listener.getsockname()[:2])
    for data in what or (request(),):
        peer.send(data)
    return peer


# --- what comes of it ---


def test_result_is_a_connected_websocket(listener: twspy.websocket) -> None:
    with connect(listener, request('/chat?room=1', X_Token='abc')) as peer:
        with listener.accept() as client:
            status, head = peer.read_head()
            assert status == 101
            assert head['upgrade'] == 'websocket'
            assert 'sec-websocket-protocol' not in head
            assert client.location == '/chat?room=1'
            assert client.protocol is None
            assert client.extensions == ()
            assert client.secure is False
            assert client.response is None
            assert client.request.path == '/chat'
            assert client.request.headers['x-token'] == 'abc'
            assert client.request.remote_address == client.getpeername()
            assert client.family is socket.AF_INET
            assert client.type is socket.SOCK_STREAM
            assert client.proto == socket.IPPROTO_TCP
            assert client.getpeername() == peer.sock.getsockname()
            assert client.getsockname() == listener.getsockname()
            peer.send_frame(TEXT, b'hello')
            assert client.recv().payload == b'hello'


def test_result_unpacks(listener: twspy.websocket) -> None:
    with connect(listener) as peer:
        client, address = listener.accept()
        assert isinstance(client, twspy.websocket)
        assert address == peer.sock.getsockname()
        again, _ = client
        assert again is client
        client.close()
        assert tuple(client) == (client, address)


def test_only_what_was_accepted_unpacks(listener: twspy.websocket) -> None:
    for sock in (listener, twspy.websocket()):
        with pytest.raises(TypeError, match=r'accept\(\) returned'):
            iter(sock)
        sock.close()


class Noted(twspy.websocket):
    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Noted.made += 1


def test_result_has_class_and_options() -> None:
    Noted.made = 0
    with listening(
        type_=Noted, protocols=['b', 'a'], max_size=10, headers={'X-Own': '1'}
    ) as listener:
        fields = {'Sec_WebSocket_Protocol': 'x, a, b'}
        with connect(listener, request(**fields)) as peer:
            with listener.accept() as client:
                assert type(client) is Noted
                assert Noted.made == 1
                assert client.protocol == 'a'  # the client's order decides
                assert client.protocols == ('b', 'a')
                status, head = peer.read_head()
                assert (status, head['x-own']) == (101, '1')
                assert head['sec-websocket-protocol'] == 'a'
                peer.send_frame(TEXT, bytes(11))
                with pytest.raises(twspy.ProtocolError):
                    client.recv()


def test_result_has_the_default_timeout(listener: twspy.websocket) -> None:
    with connect(listener), listener.accept() as client:
        assert client.gettimeout() is None
    socket.setdefaulttimeout(2.5)
    try:
        with connect(listener), listener.accept() as client:
            assert client.gettimeout() == 2.5
    finally:
        socket.setdefaulttimeout(None)


def test_result_has_no_hooks(listener: twspy.websocket) -> None:
    listener.add_hook(lambda frame: Frame(TEXT, 'hooked'))
    with connect(listener) as peer, listener.accept() as client:
        peer.read_head()
        client.send(Frame(TEXT, 'plain'))
        assert peer.read_frame().payload == b'plain'


def test_result_outlives_the_listener() -> None:
    listener = listening()
    with connect(listener) as peer:
        client = listener.accept()
        listener.close()
        del listener
        peer.read_head()
        client.send(Frame(TEXT, 'x'))
        assert peer.read_frame().payload == b'x'
        client.close()


def test_frames_right_behind_the_request(listener: twspy.websocket) -> None:
    with connect(listener, request() + pack(TEXT, b'early') * 3):
        with listener.accept() as client:
            assert client.pending() == 3
            assert [f.payload for f in client.recvn(3)] == [b'early'] * 3


def test_request_a_byte_at_a_time(listener: twspy.websocket) -> None:
    wire = request() + pack(TEXT, b'x')
    peer = RawPeer.open(listener.getsockname())

    def dribble() -> None:
        for i in range(len(wire)):
            peer.send(wire[i : i + 1])

    thread = threading.Thread(target=dribble)
    thread.start()
    with peer, listener.accept() as client:
        thread.join()
        assert client.recv().payload == b'x'


# --- addresses ---


def test_empty_host_is_all_of_ipv4() -> None:
    with listening(('', 0)) as listener:
        assert listener.getsockname()[0] == '0.0.0.0'
        port = listener.getsockname()[1]
        for host in ('127.0.0.1', '127.0.0.9'):
            with RawPeer.open((host, port)) as peer:
                peer.send(request())
                with listener.accept() as client:
                    assert client.getpeername() == peer.sock.getsockname()
                    # As the documented examples show it.
                    assert '%s:%d' % client.getpeername()  # noqa: UP031


def test_double_colon_is_dual_stack() -> None:
    with listening(('::', 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        for host in ('127.0.0.1', '::1'):
            with RawPeer.open((host, port)) as peer:
                peer.send(request())
                client, address = listener.accept()
                with client:
                    assert address == client.getpeername()
                    assert len(address) == 4
                    assert host in address[0]


def test_double_colon_leaves_the_choice_to_the_program() -> None:
    with twspy.websocket(family=socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(('::', 0))
        sock.listen()
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        RawPeer.open(('::1', sock.getsockname()[1])).close()


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with listening(path, family=socket.AF_UNIX) as listener:
        assert listener.getsockname() == path
        with twspy.websocket(family=socket.AF_UNIX) as sock:
            sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                sock.connect(path)
            client, address = listener.accept()
            sock.connect(path)
            assert address == ''
            assert client.request.headers['host'] == 'localhost'
            client.send(Frame(TEXT, 'x'))
            sock.settimeout(10)
            assert sock.recv().payload == b'x'
            client.close()


# --- peers that keep nobody waiting ---


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(r.levelno == logging.DEBUG for r in caplog.records)
    return [r.getMessage() for r in caplog.records]


BAD = {
    'plain request': (b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 426),
    'no request at all': (b'hello\r\n\r\n', 400),
    'bare LF': (b'GET / HTTP/1.1\nHost: x\n\n', 400),
    'POST': (b'POST / HTTP/1.1\r\nHost: x\r\n\r\n', 405),
    'no key': (request(remove=('Sec-WebSocket-Key',)), 400),
    'version 8': (request(Sec_WebSocket_Version='8'), 426),
    'body': (request(Content_Length='1') + b'x', 400),
    'chunked': (request(Transfer_Encoding='chunked'), 400),
    'two hosts': (request().replace(b'\r\n', b'\r\nHost: b\r\n', 1), 400),
    'long head': (request(X=17000 * 'x'), 431),
    'many fields': (request(**{f'X_{i}': 'x' for i in range(130)}), 431),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_request(
    listener: twspy.websocket, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, 'twspy')
    wire, expected = BAD[name]
    with connect(listener, wire) as bad, connect(listener) as good:
        with listener.accept() as client:
            assert client.getpeername() == good.sock.getsockname()
        bad.sock.settimeout(0.2)
        status, head, body = bad.read_answer()
        assert status == expected
        assert head['connection'].lower().startswith('close')
        assert len(body) > 10
        (message,) = refusals(caplog)
        assert text_of(bad.sock.getsockname()) in message
        assert str(expected) in message


def test_plain_request_is_told_what_this_is(listener: twspy.websocket) -> None:
    with connect(listener, BAD['plain request'][0]) as peer:
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        status, head, body = peer.read_answer()
        assert status == 426
        assert 'Upgrade' in head['connection']
        assert head['upgrade'] == 'websocket'
        assert head['sec-websocket-version'] == '13'
        assert 'WebSocket' in body


def test_head_request_gets_no_body(listener: twspy.websocket) -> None:
    with connect(listener, b'HEAD / HTTP/1.1\r\nHost: x\r\n\r\n') as peer:
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert peer.read_head()[0] == 426
        peer.expect_end()


def test_location_and_origin() -> None:
    options = {
        'locations': ['/a', '/b'],
        'trusted_origins': ['https://example.com'],
    }
    cases = [
        (request('/c'), 404),
        (request('/a/'), 404),
        (request('/a', Origin='https://example.com.evil'), 403),
        (request('/a', Origin='null'), 403),
        (request('/b?x', Origin='https://example.com'), 101),
        (request('/a'), 101),
    ]
    with listening(**options) as listener:
        assert listener.locations == ('/a', '/b')
        assert listener.trusted_origins == ('https://example.com',)
        listener.settimeout(0.1)
        for wire, expected in cases:
            with connect(listener, wire) as peer:
                if expected == 101:
                    listener.accept().close()
                else:
                    with pytest.raises(TimeoutError):
                        listener.accept()
                assert peer.read_head()[0] == expected


def test_no_line_of_a_log_is_forged(
    listener: twspy.websocket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, 'twspy')
    wire = request(Host_='x').replace(b'Host: localhost', b'Host: \x1b[2J\xe2')
    with connect(listener, wire), connect(listener):
        listener.accept().close()
    (message,) = refusals(caplog)
    assert message.isprintable()


def test_nothing_is_logged_about_good_peers(
    listener: twspy.websocket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with connect(listener), listener.accept():
        pass
    assert caplog.records == []


def test_silent_peers_hold_nobody_up(listener: twspy.websocket) -> None:
    silent = [connect(listener, b'GET / HT') for _ in range(20)]
    start = time.monotonic()
    with connect(listener) as good, listener.accept() as client:
        assert client.getpeername() == good.sock.getsockname()
        assert time.monotonic() - start < 5
    # The others are not forgotten.
    silent[7].send(request()[len('GET / HT') :])
    with listener.accept() as client:
        assert client.getpeername() == silent[7].sock.getsockname()
    for peer in silent:
        peer.close()


def test_silent_peer_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, 'twspy')
    with listening(open_timeout=0.2) as listener:
        listener.settimeout(1)
        start = time.monotonic()
        dropped = 0.0
        with connect(listener, b'GET') as peer:

            def wait_for_the_end() -> None:
                nonlocal dropped
                peer.expect_end()
                dropped = time.monotonic() - start

            thread = threading.Thread(target=wait_for_the_end)
            thread.start()
            with pytest.raises(TimeoutError):
                listener.accept()
            thread.join()
        assert 0.15 < dropped < 0.9
        assert 'in time' in ''.join(refusals(caplog))


def test_dribbling_does_not_extend_the_deadline() -> None:
    with listening(open_timeout=0.3) as listener:
        listener.settimeout(2)
        with connect(listener, request()[:-2]) as peer:

            def dribble() -> float:
                start = time.monotonic()
                try:
                    for _ in range(100):
                        peer.send(b'X-A: b\r\n')
                        time.sleep(0.02)
                except OSError:
                    pass
                return time.monotonic() - start

            times: list[float] = []
            thread = threading.Thread(target=lambda: times.append(dribble()))
            thread.start()
            with pytest.raises(TimeoutError):
                listener.accept()
            thread.join()
        assert times[0] < 1.5


def test_peers_that_vanish(listener: twspy.websocket) -> None:
    for end in (RawPeer.close, RawPeer.reset):
        for part in (b'', request()[:30], request()):
            peer = connect(listener, part)
            end(peer)
    with connect(listener) as good:
        clients = []
        while not clients or clients[-1].remote != good.sock.getsockname():
            client, remote = listener.accept()
            client.remote = remote  # it takes attributes
            clients.append(client)
        for client in clients:
            client.close()


def test_oldest_is_dropped_where_too_many_wait(
    listener: twspy.websocket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, 'twspy')
    first = connect(listener, b'GET')
    listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listener.accept()
    others = []
    for _ in range(140):
        others.append(connect(listener, b'GET'))
        if len(others) % 50 == 0:
            with pytest.raises(TimeoutError):
                listener.accept()
    with pytest.raises(TimeoutError):
        listener.accept()
    first.expect_end()
    assert 'dropped' in refusals(caplog)[0]
    assert len(refusals(caplog)) == 141 - 128
    listener.settimeout(10)
    others[-1].send(request()[3:])
    with listener.accept() as client:
        assert client.getpeername() == others[-1].sock.getsockname()
    for peer in [first, *others]:
        peer.close()


def descriptors() -> int:
    return psutil.Process().num_fds()


def test_half_open_ones_go_with_the_listener() -> None:
    before = descriptors()
    listener = listening()
    peers = [connect(listener, b'GET') for _ in range(10)]
    refused = connect(listener, b'nonsense\r\n\r\n')  # lingers
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.accept()
    assert descriptors() == before + 1 + 2 * 11
    listener.close()
    for peer in peers:
        peer.expect_end()
        peer.close()
    refused.close()
    assert descriptors() == before


def test_refused_peer_that_stays_is_closed() -> None:
    with listening(close_timeout=0.1) as listener:
        before = descriptors()
        with connect(listener, b'nonsense\r\n\r\n') as peer:
            listener.settimeout(0.4)
            with pytest.raises(TimeoutError):
                listener.accept()
            assert peer.read_answer()[0] == 400
            assert descriptors() == before + 1  # ours


def test_answer_survives_a_large_body(listener: twspy.websocket) -> None:
    """A reset for unread bytes must not overtake the answer."""
    head = b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n'
    with connect(listener, head + bytes(100_000)) as peer:
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert peer.read_answer()[0] == 405


# --- time ---


def test_timeout_bounds_the_whole_call(listener: twspy.websocket) -> None:
    """Whatever happens meanwhile."""
    done = threading.Event()

    def pester() -> None:
        while not done.is_set():
            with connect(listener, b'nonsense\r\n\r\n'):
                time.sleep(0.01)

    thread = threading.Thread(target=pester)
    thread.start()
    listener.settimeout(0.3)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r'accept\(\) timed out'):
        listener.accept()
    assert 0.25 < time.monotonic() - start < 3
    done.set()
    thread.join()


def test_nonblocking(listener: twspy.websocket) -> None:
    listener.setblocking(False)
    for _ in range(2):
        with pytest.raises(BlockingIOError) as caught:
            listener.accept()
        assert caught.value.errno == errno.EAGAIN
    with connect(listener) as peer:
        assert select.select([listener], [], [], 10)[0] == [listener]
        with listener.accept() as client:
            assert client.getpeername() == peer.sock.getsockname()
    with connect(listener, request()[:20]) as peer:
        for _ in range(2):
            select.select([listener], [], [], 0.1)
            with pytest.raises(BlockingIOError):
                listener.accept()
        peer.send(request()[20:])
        time.sleep(0.05)
        with listener.accept() as client:
            assert client.getpeername() == peer.sock.getsockname()


def test_several_are_ready_at_once(listener: twspy.websocket) -> None:
    peers = [connect(listener) for _ in range(10)]
    time.sleep(0.05)
    listener.setblocking(False)
    clients = [listener.accept() for _ in peers]
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert {c.getpeername() for c in clients} == {
        p.sock.getsockname() for p in peers
    }
    for end in itertools.chain(clients, peers):
        end.close()


# --- threads and errors ---


def test_threads_take_turns(listener: twspy.websocket) -> None:
    accepted: list[twspy.websocket] = []

    def accept() -> None:
        accepted.append(listener.accept())

    threads = [threading.Thread(target=accept) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    peers = [connect(listener) for _ in threads]
    for thread in threads:
        thread.join(10)
    assert {c.getpeername() for c in accepted} == {
        p.sock.getsockname() for p in peers
    }
    for end in itertools.chain(accepted, peers):
        end.close()


def test_close_wakes_accept(listener: twspy.websocket) -> None:
    errors: list[BaseException] = []

    def accept() -> None:
        try:
            listener.accept()
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=accept) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    fd = listener.fileno()
    listener.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert [e.errno for e in errors] == [errno.EBADF] * 2  # type: ignore[attr-defined]
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)


def test_no_descriptors_left(listener: twspy.websocket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connect(listener) as peer:
        spare = os.dup(0)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        try:
            with pytest.raises(OSError, match='files') as caught:
                listener.accept()
            assert caught.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with listener.accept() as client:
            assert client.getpeername() == peer.sock.getsockname()


def test_accept_without_listen() -> None:
    with twspy.websocket() as sock:
        with pytest.raises(OSError, match='not listening') as caught:
            sock.accept()
        assert caught.value.errno == errno.EINVAL
        sock.bind(('127.0.0.1', 0))
        with pytest.raises(OSError, match='not listening'):
            sock.accept()


def test_listening_ones_have_no_frames(listener: twspy.websocket) -> None:
    for call in (listener.recv, lambda: listener.send(Frame(TEXT, 'x'))):
        with pytest.raises(OSError, match='listening') as caught:
            call()
        assert caught.value.errno == errno.EINVAL


def test_listen_backlog() -> None:
    with twspy.websocket() as sock:
        sock.bind(('127.0.0.1', 0))
        sock.listen(1)
        sock.listen(backlog=5)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        with pytest.raises(TypeError):
            sock.listen('x')  # type: ignore[arg-type]


def test_many_connections_leave_nothing_behind(
    listener: twspy.websocket,
) -> None:
    def serve(count: int) -> None:
        for i in range(count):
            good, bad = connect(listener), connect(listener, b'x\r\n\r\n')
            with listener.accept() as client:
                client.send(Frame(TEXT, b'x' * i))
            good.reset()
            bad.reset()

    serve(100)
    process = psutil.Process()
    fds, memory = process.num_fds(), process.memory_info().rss
    serve(400)
    assert process.num_fds() <= fds + 4  # who lingers may lag behind
    sanitized = 'asan' in os.environ.get('LD_PRELOAD', '')
    slack = (512 if sanitized else 2) << 20  # it holds on to what is freed
    assert process.memory_info().rss - memory < slack
