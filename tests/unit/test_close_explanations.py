"""What a close tells of its cause: who ended the connection, both Close
frames, the system's error, what was not sent, and the ping that was not
answered."""

import copy
import errno
import logging
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawends import client_end, in_thread, masks, server_end
from rawpeer import CLOSE, PING, PONG, TEXT, RawPeer, close_payload

import twspy
from twspy import CloseMessage, Connection, SocketClosed, _support

End = Callable[..., tuple[twspy.websocket, RawPeer]]
Ends = tuple[Connection, RawPeer]

FACTS = ('ended_by', 'sent', 'received', 'errno', 'unsent', 'ping_age')
NOTHING = dict.fromkeys(FACTS) | {'unsent': 0}


@pytest.fixture(params=[client_end, server_end], ids=['client', 'server'])
def end(request: pytest.FixtureRequest) -> End:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[False, True], ids=['pieces', 'frames'])
def ends(request: pytest.FixtureRequest, end: End) -> Iterator[Ends]:
    """With a hook the connection reads frame by frame."""
    sock, peer = end(close_timeout=0.2)
    if request.param:
        sock.add_hook(recv=lambda frame: frame)
    with sock, peer:
        yield Connection(sock), peer


def say(conn: Connection, peer: RawPeer, *frame: Any, **how: Any) -> None:
    peer.send_frame(*frame, mask=masks(conn.sock), **how)


def leave(conn: Connection, peer: RawPeer, payload: bytes = b'') -> None:
    """The peer closes, and ends the stream without waiting for an answer."""
    say(conn, peer, CLOSE, payload)
    peer.sock.shutdown(socket.SHUT_WR)


def closed(call: Callable[[], object]) -> SocketClosed:
    with pytest.raises(SocketClosed) as caught:
        call()
    return caught.value


def facts(source: SocketClosed | CloseMessage) -> dict[str, Any]:
    """What differs from a close that nothing is known of."""
    known = {name: getattr(source, name) for name in FACTS}
    return {n: value for n, value in known.items() if value != NOTHING[n]}


def message_of(conn: Connection) -> CloseMessage:
    """What onclose() gets once the connection is over."""
    messages: list[CloseMessage] = []
    conn.onclose = messages.append  # type: ignore[method-assign]
    conn.receive_forever()
    (message,) = messages
    return message


def check(conn: Connection, code: int, reason: str, **known: Any) -> str:
    """Every way to learn of the end tells the same; returns the line."""
    errors = [closed(conn.recv), closed(lambda: conn.send('x'))]
    message = message_of(conn)
    assert type(message) is CloseMessage
    sources: list[SocketClosed | CloseMessage] = [*errors, message]
    for source in sources:
        assert (source.code, source.reason) == (code, reason)
        assert facts(source) == known
    for error in errors:
        assert error.detail == message.explanation
        assert str(error).endswith(message.explanation)
    assert f', ended by {message.ended_by}>' in repr(message)
    assert message == CloseMessage(code, reason)
    assert hash(message) == hash(CloseMessage(code, reason))
    if code == 1006:
        assert reason
    return message.explanation


# --- what a program makes ---


def test_nothing_is_known_of_what_a_program_makes() -> None:
    message = CloseMessage(1006, 'gone')
    assert facts(message) == {}
    assert message.explanation == ''
    assert 'ended' not in repr(message)
    for name in (*FACTS, 'explanation'):
        with pytest.raises(AttributeError):
            setattr(message, name, None)
    assert CloseMessage.__basicsize__ <= 48 + object.__basicsize__


# --- the peer ---


def test_by_the_peer(ends: Ends) -> None:
    conn, peer = ends
    leave(conn, peer, close_payload(3001, 'tschüß'))
    line = check(
        conn,
        3001,
        'tschüß',
        ended_by='peer',
        sent=(3001, ''),
        received=(3001, 'tschüß'),
    )
    assert line == (
        'ended by the peer: 3001 (tschüß); sent Close 3001, received Close '
        '3001 (tschüß)'
    )


def test_by_the_peer_without_a_code(ends: Ends) -> None:
    conn, peer = ends
    leave(conn, peer)
    line = check(
        conn, 1005, '', ended_by='peer', sent=(1005, ''), received=(1005, '')
    )
    assert line == (
        'ended by the peer: 1005; sent Close without a code, received Close '
        'without a code'
    )


def test_a_hostile_reason_stays_in_its_line(ends: Ends) -> None:
    conn, peer = ends
    reason = 'a\r\nb\x00\x1b[2J\u202ec\u2028d'
    leave(conn, peer, close_payload(1000, reason))
    error = closed(conn.recv)
    assert error.reason == reason
    assert error.received == (1000, reason.replace('\x00', '?'))
    assert error.detail == (
        'ended by the peer: 1000 (a??b??[2J?c?d); sent Close 1000, received '
        'Close 1000 (a??b??[2J?c?d)'
    )
    assert error.detail.isprintable()


# --- us ---


def test_by_us_with_an_answer(ends: Ends) -> None:
    conn, peer = ends

    def answer() -> None:
        assert peer.read_frame().close_code == 3000
        leave(conn, peer, close_payload(3002, 'so be it'))

    join = in_thread(answer)
    conn.close(3000, 'enough')
    assert join() is None
    line = check(
        conn,
        3002,
        'so be it',
        ended_by='us',
        sent=(3000, 'enough'),
        received=(3002, 'so be it'),
    )
    assert line == (
        'ended by us: 3002 (so be it); sent Close 3000 (enough), received '
        'Close 3002 (so be it)'
    )


def test_by_us_with_a_close_message(ends: Ends) -> None:
    conn, peer = ends
    leave(conn, peer)
    conn.send(CloseMessage(1001, 'bye'))
    check(
        conn,
        1005,
        '',
        ended_by='us',
        sent=(1001, 'bye'),
        received=(1005, ''),
    )


def test_by_us_without_an_answer_in_time(ends: Ends) -> None:
    conn, peer = ends
    conn.close(1001, 'bye')
    assert peer.read_frame().close_reason == 'bye'
    line = check(
        conn,
        1006,
        'peer did not answer our Close frame in time',
        ended_by='us',
        sent=(1001, 'bye'),
    )
    assert line.endswith('; sent Close 1001 (bye), received no Close frame')


def test_by_us_and_the_peer_ends_without_an_answer(ends: Ends) -> None:
    conn, peer = ends
    peer.sock.shutdown(socket.SHUT_WR)
    conn.close()
    check(
        conn,
        1006,
        'peer ended the connection without an answer to our Close frame',
        ended_by='us',
        sent=(1000, ''),
    )


def test_while_we_are_closing(end: End) -> None:
    sock, peer = end(close_timeout=5)
    conn = Connection(sock)
    with sock, peer:
        join = in_thread(lambda: conn.close(3000, 'enough'))
        assert peer.read_frame().close_code == 3000
        for call in lambda: conn.send('x'), conn.send_ping:
            error = closed(call)
            assert error.code == 3000
            assert error.reason == 'the closing handshake has begun'
            assert facts(error) == {'ended_by': 'us', 'sent': (3000, 'enough')}
        leave(conn, peer)
        assert join() is None


def test_the_websocket_is_closed_by_the_program(ends: Ends) -> None:
    conn, _ = ends
    conn.sock.close()
    check(conn, 1006, 'the websocket was closed', ended_by='us')


def test_the_websocket_is_closed_by_another_thread(ends: Ends) -> None:
    conn, _ = ends
    join = in_thread(conn.recv)
    time.sleep(0.1)
    conn.sock.close()
    error = join()
    assert isinstance(error, SocketClosed)
    assert error.reason == 'the websocket was closed'
    check(conn, 1006, 'the websocket was closed', ended_by='us')


# --- the network ---


def test_the_stream_ends(ends: Ends) -> None:
    conn, peer = ends
    say(conn, peer, TEXT, b'hi')
    peer.close()
    assert conn.recv().payload == 'hi'
    line = check(
        conn,
        1006,
        'peer ended the connection without a Close frame',
        ended_by='network',
    )
    assert line.endswith('; sent no Close frame, received none')


@pytest.mark.parametrize('there', [1, 2, 5, 9])
def test_the_stream_ends_amid_a_frame(ends: Ends, there: int) -> None:
    conn, peer = ends
    peer.send(
        (b'\x81\x84' + b'\0' * 20)[:there]
        if masks(conn.sock)
        else (b'\x81\x7e\x01\x00' + b'\0' * 20)[:there]
    )
    peer.close()
    check(
        conn,
        1006,
        'peer ended the connection in the middle of a frame',
        ended_by='network',
    )


RESET = 'Connection reset by peer'


def test_reset_met_by_recv(ends: Ends) -> None:
    conn, peer = ends
    peer.reset()
    error = closed(conn.recv)
    assert isinstance(error.__cause__, ConnectionResetError)
    line = check(conn, 1006, RESET, ended_by='network', errno=errno.ECONNRESET)
    assert f'({RESET})' in line
    assert f'errno {errno.ECONNRESET}' in line


def test_reset_met_by_send(ends: Ends) -> None:
    conn, peer = ends
    peer.reset()
    first = closed(lambda: conn.send('x'))
    assert isinstance(first.__cause__, ConnectionResetError)
    # The system tells it once: from here on it is remembered.
    for error in first, closed(lambda: conn.send('x')), closed(conn.recv):
        assert (error.code, error.reason) == (1006, RESET)
        assert facts(error) == {
            'ended_by': 'network',
            'errno': errno.ECONNRESET,
        }
    conn.close()
    check(conn, 1006, RESET, ended_by='network', errno=errno.ECONNRESET)


def test_what_came_before_a_failed_send_is_received(end: End) -> None:
    sock, peer = end(pair=socket.socketpair)
    conn = Connection(sock)
    with sock:
        leave(conn, peer, close_payload(1001, 'bye'))
        peer.close()
        error = closed(lambda: conn.send('x'))
        assert facts(error) == {'ended_by': 'network', 'errno': errno.EPIPE}
        check(
            conn,
            1001,
            'bye',
            ended_by='peer',
            sent=(1001, ''),
            received=(1001, 'bye'),
        )


def test_an_odd_error_of_a_hook(ends: Ends) -> None:
    class Odd(OSError):
        strerror = property(lambda self: 1 / 0)
        errno = 1 << 70

    def hook(frame: twspy.Frame) -> twspy.Frame:
        raise Odd

    conn, peer = ends
    conn.sock.add_hook(recv=hook)
    say(conn, peer, TEXT, b'hi')
    with pytest.raises(Odd):
        conn.recv()
    check(
        conn,
        1006,
        'reading failed',
        ended_by='network',
    )


# --- a rule or a limit ---


@pytest.mark.parametrize(
    ('code', 'frame'),
    [
        (1002, {'opcode': TEXT, 'rsv': 4}),
        (1002, {'opcode': CLOSE, 'payload': b'x'}),
        (1007, {'opcode': TEXT, 'payload': b'\xff'}),
        (1009, {'opcode': TEXT, 'length': 1 << 30}),
    ],
)
def test_by_a_limit(ends: Ends, code: int, frame: dict[str, Any]) -> None:
    conn, peer = ends
    say(conn, peer, **frame)
    with pytest.raises(twspy.ProtocolError) as caught:
        conn.recv()
    reason = str(caught.value)
    said = peer.read_frame()
    assert (said.close_code, said.close_reason) == (code, reason)
    check(conn, code, reason, ended_by='limit', sent=(code, reason))


def test_by_a_limit_while_we_are_closing(ends: Ends) -> None:
    conn, peer = ends
    say(conn, peer, TEXT, b'x', rsv=4)
    conn.close(1001, 'bye')
    error = closed(conn.recv)
    assert error.code == 1002
    assert facts(error) == {'ended_by': 'limit', 'sent': (1001, 'bye')}


# --- what was not sent ---


def test_unsent_bytes(end: End) -> None:
    sock, peer = end(pair=socket.socketpair, close_timeout=0.2)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    conn = Connection(sock)
    with sock, peer:
        conn.send(bytes(1 << 20), timeout=0.1)
        conn.close(1000, 'enough')
        error = closed(conn.recv)
        assert error.reason == 'peer did not answer our Close frame in time'
        assert f'; {error.unsent} bytes unsent' in error.detail
        got = 0
        while data := peer.sock.recv(1 << 20):
            got += len(data)
        key = 0 if masks(sock) else 4
        whole = 10 + key + (1 << 20) + 2 + key + 8
        assert 0 < got < whole
        assert error.unsent == whole - got
        assert message_of(conn).unsent == error.unsent


def test_what_leaves_while_we_wait_is_not_unsent(end: End) -> None:
    sock, peer = end(pair=socket.socketpair, close_timeout=5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    conn = Connection(sock)
    with sock, peer:
        conn.send(bytes(1 << 20), timeout=0.1)
        say(conn, peer, CLOSE, close_payload(1001))

        def read_all() -> None:
            assert len(peer.read_frame().payload) == 1 << 20
            assert peer.read_frame().close_code == 1001
            peer.sock.shutdown(socket.SHUT_WR)

        join = in_thread(read_all)
        assert closed(conn.recv).unsent == 0
        assert join() is None


# --- pings ---


def test_a_ping_that_is_not_answered(ends: Ends) -> None:
    conn, peer = ends
    begin = time.monotonic()
    conn.send_ping(b'one')
    time.sleep(0.1)
    peer.close()
    error = closed(conn.recv)
    assert error.ping_age is not None
    assert 0.1 <= error.ping_age <= time.monotonic() - begin
    assert '; ping not answered for 0.' in error.detail
    assert message_of(conn).ping_age == error.ping_age


def test_an_answer_to_another_ping(ends: Ends) -> None:
    conn, peer = ends

    conn.send_ping(b'one')
    conn.send(twspy.Message(PING, b'two'))
    say(conn, peer, PONG, b'one')  # not of the last one
    say(conn, peer, PONG, b'')
    leave(conn, peer)
    assert closed(conn.recv).ping_age is not None


@pytest.mark.parametrize('payload', [b'', b'two', b'x' * 125])
def test_a_ping_that_is_answered(ends: Ends, payload: bytes) -> None:
    conn, peer = ends
    conn.send_ping(b'one')
    conn.send(twspy.Message(PING, payload))
    say(conn, peer, PONG, payload)
    leave(conn, peer)
    assert closed(conn.recv).ping_age is None


def test_a_ping_answered_while_we_close(ends: Ends) -> None:
    conn, peer = ends
    conn.send_ping(b'one')
    say(conn, peer, PONG, b'one')
    leave(conn, peer)
    conn.close()
    assert closed(conn.recv).ping_age is None


def test_a_ping_that_was_not_sent(end: End) -> None:
    sock, peer = end(pair=socket.socketpair)
    conn = Connection(sock)
    with sock, peer:
        conn.send(bytes(1 << 22), timeout=0.05)
        with pytest.raises(TimeoutError):
            conn.send(twspy.Message(PING, b'one'), timeout=0.05)
        peer.close()
        assert closed(conn.recv).ping_age is None


# --- the log ---


def test_one_line_in_the_log(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    conn, peer = ends
    with caplog.at_level(logging.DEBUG, 'twspy'):
        leave(conn, peer, close_payload(1001, 'bye'))
        error = closed(conn.recv)
        closed(conn.recv)
        conn.close()
        conn.receive_forever()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ('twspy', 'DEBUG')
    assert record.getMessage() == f'connection with {conn} {error.detail}'


@pytest.mark.parametrize('way', ['close', 'lost', 'limit', 'sock'])
def test_the_log_hears_of_every_end(
    ends: Ends, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    conn, peer = ends
    with caplog.at_level(logging.DEBUG, 'twspy'):
        if way == 'close':
            conn.close()
        elif way == 'lost':
            peer.close()
            closed(conn.recv)
        elif way == 'limit':
            say(conn, peer, 3)
            with pytest.raises(twspy.ProtocolError):
                conn.recv()
        else:
            conn.sock.close()
            closed(lambda: conn.send('x'))
    (record,) = caplog.records
    assert message_of(conn).explanation in record.getMessage()


def test_nothing_is_formatted_without_the_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Costly:
        @property
        def explanation(self) -> str:
            raise AssertionError('was asked for')

    with caplog.at_level(logging.INFO, 'twspy'):
        _support.log_ended(None, Costly())  # type: ignore[arg-type]
    assert caplog.records == []


class Stop(BaseException):
    pass


@pytest.mark.parametrize('error', [ValueError, Stop])
def test_a_log_that_raises(
    ends: Ends,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conn, peer = ends

    def raise_it(record: logging.LogRecord) -> bool:
        raise error

    noticed: list[Any] = []
    monkeypatch.setattr('sys.unraisablehook', noticed.append)
    logger = logging.getLogger('twspy')
    monkeypatch.setattr(logger, 'level', logging.DEBUG)
    monkeypatch.setattr(logger, 'filters', [raise_it])
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    peer.close()
    expected = SocketClosed if error is ValueError else Stop
    with pytest.raises(expected):
        conn.recv()
    assert [unraisable.exc_type for unraisable in noticed] == (
        [ValueError] if error is ValueError else []
    )
    assert closed(conn.recv).ended_by == 'network'
    assert conn.state == 'closed'
    monkeypatch.undo()
    logger.manager._clear_cache()  # type: ignore[attr-defined]


# --- pickle and copy ---


class Noted(CloseMessage):
    """A subclass, whose objects have attributes."""


def ended_message() -> CloseMessage:
    sock, peer = client_end(close_timeout=0.1)
    conn = Connection(sock)
    with sock, peer:
        conn.send_ping()
        conn.close(1001, 'bye')
    return message_of(conn)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_copy(protocol: int) -> None:
    message = ended_message()
    assert len(facts(message)) == 3
    for again in (
        pickle.loads(pickle.dumps(message, protocol)),
        copy.copy(message),
        copy.deepcopy(message),
    ):
        assert type(again) is CloseMessage
        assert again == message
        assert facts(again) == facts(message)
        assert again.explanation == message.explanation


def test_pickle_of_a_subclass() -> None:
    state: Any = ended_message().__reduce__()[2]
    known = state[0]
    message = Noted(1006, 'gone')
    for state in (known, {'tag': 1}), (known, None):
        message = Noted(1006, 'gone')
        message.__setstate__(state)
        again = pickle.loads(pickle.dumps(message))
        assert type(again) is Noted
        assert vars(again) == (state[1] or {})
        assert again.explanation == message.explanation != ''
    plain = Noted(1000)
    plain.tag = 2  # type: ignore[attr-defined]
    assert copy.copy(plain).tag == 2  # type: ignore[attr-defined]


def test_setstate_changes_no_message() -> None:
    message = ended_message()
    before = facts(message)
    state: Any = message.__reduce__()[2]
    with pytest.raises(ValueError, match='for pickle and copy'):
        message.__setstate__(state)
    assert facts(message) == before
    known = state[0]
    for bad in (
        ((), None),
        ((5, *known[1:]), None),
        (known,),
        (None, None),
        ((*known[:2], 'text', *known[3:]), None),
    ):
        other = CloseMessage(1000)
        with pytest.raises((TypeError, ValueError)):
            other.__setstate__(bad)
        assert facts(other) == {}
    with pytest.raises(AttributeError):
        CloseMessage(1000).__setstate__({'tag': 1})


def test_many_threads_learn_the_same(end: End) -> None:
    sock, peer = end()
    conn = Connection(sock)
    with sock, peer:
        start = threading.Barrier(5)

        def learn() -> object:
            start.wait()
            while True:
                conn.send('x')

        joins = [in_thread(learn) for _ in range(4)]
        start.wait()
        peer.reset()
        errors = [join() for join in joins]
        for error in errors:
            assert isinstance(error, SocketClosed)
            assert error.ended_by == 'network'
            assert error.code == 1006
            assert error.reason
