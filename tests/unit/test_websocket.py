"""The websocket type itself: its making, its end, and what it has in common
with socket.socket."""

import copy
import errno
import fcntl
import gc
import inspect
import os
import pickle
import socket
import ssl
import struct
import sysconfig
import warnings
import weakref
from typing import Any

import psutil
import pytest
from rawends import (
    answer,
    client_end,
    read_request,
    server_end,
    tcp_pair,
    text_of,
)
from rawpeer import TEXT, RawPeer, pack, request

import twspy
from twspy import Frame

# A sanitizer holds on to much of what is freed.
SLACK = (512 if 'asan' in os.environ.get('LD_PRELOAD', '') else 2) << 20

# --- the constructor ---


def test_defaults() -> None:
    with twspy.websocket() as sock:
        assert sock.fileno() >= 0
        assert sock.family is socket.AF_INET
        assert sock.type is socket.SOCK_STREAM
        assert sock.proto == 0
        assert sock.timeout is None
        assert sock.location == '/'
        assert sock.origin is None
        assert sock.protocol is None
        assert sock.protocols == ()
        assert sock.extensions == ()
        assert sock.trusted_origins == ()
        assert sock.locations == ()
        assert sock.request is None
        assert sock.response is None
        assert sock.secure is False


def test_signature() -> None:
    parameters = inspect.signature(twspy.websocket).parameters
    positional = [
        'sock',
        'protocols',
        'extensions',
        'origin',
        'location',
        'trusted_origins',
        'locations',
        'auth',
        'family',
        'proto',
    ]
    keywords = [
        'headers',
        'max_size',
        'open_timeout',
        'close_timeout',
        'max_head_size',
        'max_header_lines',
        'compression',
    ]
    assert list(parameters) == positional + keywords
    assert all(
        parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        for name in keywords
    )
    assert parameters['family'].default == socket.AF_INET
    assert parameters['max_size'].default == 1 << 20


def test_every_method_says_what_it_is() -> None:
    for name, method in vars(twspy.websocket).items():
        if callable(method) and not name.startswith('_'):
            assert inspect.signature(method)
        if not name.startswith('__'):
            assert len(method.__doc__) > 10, name


def test_arguments_by_position() -> None:
    with twspy.websocket(
        None,
        ['a'],
        [],
        'https://o.example',
        '/x',
        'same-origin',
        ['/y'],
        None,
        socket.AF_INET6,
        socket.IPPROTO_TCP,
    ) as sock:
        assert sock.protocols == ('a',)
        assert sock.origin == 'https://o.example'
        assert sock.location == '/x'
        assert sock.trusted_origins == 'same-origin'
        assert sock.locations == ('/y',)
        assert sock.family is socket.AF_INET6
        assert sock.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'protocols': ['a b']}, ValueError),
        ({'protocols': 'chat'}, TypeError),
        ({'location': 'x'}, ValueError),
        ({'location': None}, TypeError),
        ({'origin': 1}, TypeError),
        ({'trusted_origins': 'anything'}, ValueError),
        ({'headers': {'a b': 'c'}}, ValueError),
        ({'headers': {'a': 'c\r\nd: e'}}, ValueError),
        ({'max_size': -1}, ValueError),
        ({'max_size': True}, TypeError),
        ({'max_head_size': 0}, ValueError),
        ({'max_head_size': None}, TypeError),
        ({'max_header_lines': 257}, ValueError),
        ({'open_timeout': -1}, ValueError),
        ({'close_timeout': 'x'}, TypeError),
        ({'family': 12345}, OSError),
        ({'unknown': 1}, TypeError),
    ],
)
def test_bad_arguments(options: Any, error: type[Exception]) -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(error):
        twspy.websocket(**options)
    assert psutil.Process().num_fds() == before


# A request() has five fields, an answer() three; both always the same length.
@pytest.mark.parametrize('over', [0, 1])
@pytest.mark.parametrize('name', ['max_head_size', 'max_header_lines'])
def test_bounds_of_a_request(name: str, over: int) -> None:
    most = len(request()) if name == 'max_head_size' else 5
    one, two = tcp_pair()
    peer = RawPeer(two)
    peer.send(request())
    with twspy.websocket(one, **{name: most - over}) as sock, two:
        if over:
            with pytest.raises(twspy.HandshakeError, match='limit'):
                sock.handshake(server=True)
            assert peer.read_head()[0] == 431
        else:
            sock.handshake(server=True)
            assert peer.read_head()[0] == 101


@pytest.mark.parametrize('over', [0, 1])
@pytest.mark.parametrize('name', ['max_head_size', 'max_header_lines'])
def test_bounds_of_an_answer(name: str, over: int) -> None:
    size = len(answer({'sec-websocket-key': ''}))
    most = size if name == 'max_head_size' else 3
    one, two = tcp_pair()
    peer = RawPeer(two)
    with twspy.websocket(one, **{name: most - over}) as sock, two:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.handshake(host='localhost')
        _, head = read_request(peer)
        peer.send(answer(head))
        sock.settimeout(30)
        if over:
            with pytest.raises(twspy.HandshakeError, match='limit'):
                sock.handshake(host='localhost')
        else:
            sock.handshake(host='localhost')


def test_bad_arguments_leave_the_socket_alone() -> None:
    with socket.socket() as sock:
        fd = sock.fileno()
        with pytest.raises(ValueError, match='location'):
            twspy.websocket(sock, location='x')
        assert sock.fileno() == fd


def test_descriptor_is_not_inherited() -> None:
    with twspy.websocket() as sock:
        assert not os.get_inheritable(sock.fileno())


# --- a socket.socket taken over ---


def test_fresh_socket() -> None:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    fd = plain.fileno()
    with twspy.websocket(plain) as sock:
        assert plain.fileno() == -1
        assert sock.fileno() == fd
        option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert option == 1
        sock.bind(('127.0.0.1', 0))
        sock.listen()


def test_listening_socket() -> None:
    plain = socket.create_server(('127.0.0.1', 0))
    with twspy.websocket(plain) as sock:
        with RawPeer.open(sock.getsockname()) as peer:
            peer.send(request())
            sock.accept().close()


@pytest.mark.parametrize('timeout', [None, 0.0, 1.5])
def test_timeout_is_inherited(timeout: float | None) -> None:
    plain = socket.socket()
    plain.settimeout(timeout)
    with twspy.websocket(plain) as sock:
        assert sock.gettimeout() == timeout


def test_subclass_of_socket() -> None:
    class Own(socket.socket):
        pass

    with twspy.websocket(Own()) as sock:
        assert sock.fileno() >= 0


def test_tls_socket_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(socket.socket()) as sock:
        with pytest.raises(TypeError, match='before it is wrapped'):
            twspy.websocket(sock)
        assert sock.fileno() >= 0


def test_datagram_socket_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match='SOCK_STREAM'):
            twspy.websocket(sock)
        assert sock.fileno() >= 0


def test_closed_socket_is_refused() -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises(OSError, match='closed') as caught:
        twspy.websocket(sock)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize('wrong', [1, 'x', object()])
def test_what_is_no_socket(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r'socket\.socket'):
        twspy.websocket(wrong)


# --- detach() ---


def test_detach_fresh() -> None:
    sock = twspy.websocket()
    fd = sock.fileno()
    assert sock.detach() == fd
    assert sock.fileno() == sock.detach() == -1
    with pytest.raises(OSError, match='closed'):
        sock.bind(('', 0))
    socket.socket(fileno=fd).close()


@pytest.mark.parametrize('timeout', [None, 0, 1])
def test_detach_connected(timeout: float | None) -> None:
    sock, peer = client_end()
    sock.settimeout(timeout)
    fd = sock.detach()
    blocking = not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    assert blocking == (timeout is None)
    with socket.socket(fileno=fd) as plain, peer:
        plain.settimeout(10)
        peer.send(b'x')
        assert plain.recv(1) == b'x'


def test_detach_loses_nothing() -> None:
    sock, peer = server_end(behind=pack(TEXT, b'x') + pack(TEXT, b'y')[:3])
    with sock, peer:
        for _ in range(2):
            with pytest.raises(RuntimeError, match='lose'):
                sock.detach()
            if sock.pending():
                sock.recv()
    sock, peer = server_end(behind=pack(TEXT, b'x'))
    with peer:
        sock.recv()
        os.close(sock.detach())


# --- closing ---


def test_close_is_idempotent() -> None:
    sock, peer = client_end()
    fd = sock.fileno()
    sock.close()
    sock.close()
    assert sock.fileno() == -1
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)
    with peer:
        peer.expect_end()  # no Close frame


def test_with() -> None:
    with twspy.websocket() as sock:
        pass
    assert sock.fileno() == -1
    with pytest.raises(KeyError), twspy.websocket() as sock:
        raise KeyError
    assert sock.fileno() == -1


def test_close_leaves_other_descriptors_alone() -> None:
    """A second close() must not close who got the number next."""
    sock = twspy.websocket()
    fd = sock.fileno()
    sock.close()
    other = socket.socket()
    assert other.fileno() == fd
    sock.close()
    del sock
    gc.collect()
    os.fstat(fd)
    other.close()


def test_unclosed_is_warned_about() -> None:
    sock = twspy.websocket()
    text = repr(sock)
    fd = sock.fileno()
    with pytest.warns(ResourceWarning, match='unclosed') as caught:
        del sock
        gc.collect()
    (warning,) = caught
    assert text in str(warning.message)
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)


def test_closed_is_not_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sock, peer = client_end()
        sock.close()
        peer.close()
        os.close(twspy.websocket().detach())
        del sock
        gc.collect()


def test_cycles_are_collected() -> None:
    def make(close: bool) -> weakref.ref[twspy.websocket]:
        sock = twspy.websocket()
        sock.me = sock  # type: ignore[attr-defined]
        sock.add_hook(lambda frame: (sock, frame)[1])
        if close:
            sock.close()
        return weakref.ref(sock)

    gone = make(close=True)
    gc.collect()
    assert gone() is None
    gone = make(close=False)
    with pytest.warns(ResourceWarning, match='unclosed') as caught:
        gc.collect()
    assert gone() is None
    # The socket.socket inside says nothing, unless it is finalized first.
    own = [w for w in caught if 'twspy' in str(w.message)]
    assert len(own) == 1
    assert len(caught) == 1 or sysconfig.get_config_var('Py_GIL_DISABLED')


# --- subclasses ---


def test_subclass_with_its_own_arguments() -> None:
    class Own(twspy.websocket):
        def __init__(self, name: str) -> None:
            super().__init__(location='/' + name)
            self.name = name

    with Own('x') as sock:
        assert (sock.location, sock.name) == ('/x', 'x')


def test_subclass_that_forgets_init() -> None:
    class Own(twspy.websocket):
        def __init__(self) -> None:
            pass

    sock = Own()
    for call in (
        sock.recv,
        sock.accept,
        sock.detach,
        sock.getsockname,
        sock.pending,
        lambda: sock.connect(('', 1)),
        lambda: sock.settimeout(1),
        lambda: sock.family,
    ):
        with pytest.raises(RuntimeError, match=r'super\(\).__init__'):
            call()
    assert sock.fileno() == -1
    assert 'closed' in repr(sock)
    assert sock.location is None
    sock.close()


def test_init_comes_once() -> None:
    with twspy.websocket() as sock:
        with pytest.raises(RuntimeError, match='already'):
            sock.__init__()  # type: ignore[misc]
        assert sock.fileno() >= 0


def test_attributes_and_weak_references() -> None:
    with twspy.websocket() as sock:
        sock.anything = 1  # type: ignore[attr-defined]
        assert weakref.ref(sock)() is sock
        assert {sock: 1}[sock] == 1
        for name in ('location', 'protocol', 'timeout', 'family'):
            with pytest.raises(AttributeError):
                setattr(sock, name, 1)


def test_no_copies() -> None:
    with twspy.websocket() as sock:
        for function in (copy.copy, pickle.dumps):
            with pytest.raises(TypeError):
                function(sock)


# --- what it looks like ---


def test_repr() -> None:
    sock = twspy.websocket()
    assert repr(sock).startswith(f'<twspy.websocket fd={sock.fileno()} new')
    sock.bind(('127.0.0.1', 0))
    sock.listen()
    port = sock.getsockname()[1]
    assert f'listening 127.0.0.1:{port}' in repr(sock)
    sock.close()
    assert repr(sock) == '<twspy.websocket closed>'
    for end, word in ((client_end, 'to'), (server_end, 'from')):
        sock, peer = end()
        own = text_of(sock.getsockname())
        other = text_of(peer.sock.getsockname())
        assert f'{own} {word} {other}>' in repr(sock)
        sock.close()
        peer.close()
    one, two = socket.socketpair()
    with twspy.websocket(one) as sock, two:
        assert repr(sock).isprintable()


# --- time ---


def test_timeout() -> None:
    with twspy.websocket() as sock:
        assert sock.gettimeout() is None
        assert sock.getblocking() is True
        sock.settimeout(1.5)
        assert sock.timeout == sock.gettimeout() == 1.5
        assert sock.getblocking() is True
        sock.setblocking(False)
        assert sock.gettimeout() == 0.0
        assert sock.getblocking() is False
        sock.setblocking(True)
        assert sock.gettimeout() is None
        sock.settimeout(0)
        assert sock.getblocking() is False
        sock.settimeout(1e-12)
        assert sock.getblocking() is True
        sock.settimeout(None)
        assert sock.gettimeout() is None
        for wrong, error in ((-1, ValueError), ('x', TypeError)):
            with pytest.raises(error):
                sock.settimeout(wrong)  # type: ignore[arg-type]
        assert sock.gettimeout() is None


def test_default_timeout() -> None:
    socket.setdefaulttimeout(3.5)
    try:
        with twspy.websocket() as sock:
            assert sock.gettimeout() == 3.5
    finally:
        socket.setdefaulttimeout(None)


# --- names and options ---


def test_socket_options() -> None:
    with twspy.websocket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        linger = struct.pack('ii', 1, 7)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert got == linger
        with pytest.raises(OSError, match='Protocol not available'):
            sock.getsockopt(socket.SOL_SOCKET, 12345)
        with pytest.raises(TypeError):
            sock.getsockopt()  # type: ignore[call-arg]


def test_no_delay_is_set() -> None:
    sock, peer = client_end()
    with sock, peer:
        option = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert option != 0


def test_bind_errors() -> None:
    with twspy.websocket() as one, twspy.websocket() as two:
        one.bind(('127.0.0.1', 0))
        one.listen()
        with pytest.raises(OSError) as caught:
            two.bind(one.getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(TypeError):
            two.bind('127.0.0.1:80')
        with pytest.raises(OSError) as caught:
            one.getpeername()
        assert caught.value.errno == errno.ENOTCONN
        with pytest.raises(OSError):
            two.shutdown(socket.SHUT_WR)


def test_blocking_mode_of_the_descriptor() -> None:
    """Waiting is ours, so that it can be interrupted."""
    one, two = tcp_pair()
    with twspy.websocket(one) as sock, two:
        flags = fcntl.fcntl(sock.fileno(), fcntl.F_GETFL)
        assert flags & os.O_NONBLOCK
        assert sock.getblocking()


# --- memory ---


def test_idle_websockets_are_small() -> None:
    ends = [client_end() for _ in range(3)]
    for sock, peer in ends:
        peer.send_frame(TEXT, bytes(100_000), mask=False)
        sock.recv()
        sock.send(Frame(TEXT, bytes(100)))
    process = psutil.Process()
    before = process.memory_info().rss
    for sock, peer in ends:
        for _ in range(20):
            peer.send_frame(TEXT, bytes(500_000 // 20), mask=False)
            sock.recv()
    assert process.memory_info().rss - before < SLACK
    for sock, peer in ends:
        sock.close()
        peer.close()


def test_many_frames_leave_nothing_behind() -> None:
    sock, peer = client_end()
    process = psutil.Process()
    with sock, peer:
        wire = pack(TEXT, bytes(1000), mask=False) * 100
        for i in range(300):
            if i == 100:
                before = process.memory_info().rss
            peer.send(wire)
            assert len(sock.recvn(100)) == 100
        assert process.memory_info().rss - before < SLACK
