"""The tree of exceptions."""

import copy
import inspect
import pickle
from typing import Any

import pytest

import twspy
from twspy import (
    ConcurrencyError,
    HandshakeError,
    PingError,
    ProtocolError,
    SocketClosed,
    SSLError,
    WebSocketError,
)


@pytest.mark.parametrize(
    ('kind', 'standard'),
    [
        (HandshakeError, ConnectionError),
        (ProtocolError, ValueError),
        (SocketClosed, ConnectionError),
        (PingError, ValueError),
        (ConcurrencyError, RuntimeError),
        (SSLError, OSError),
    ],
)
def test_tree(kind: type[WebSocketError], standard: type) -> None:
    assert issubclass(kind, WebSocketError)
    assert issubclass(kind, standard)
    assert kind.__module__ == 'twspy'
    assert getattr(twspy, kind.__name__) is kind
    assert inspect.getdoc(kind)


def test_handshake_error() -> None:
    error = HandshakeError('refused')
    assert str(error) == 'refused'
    assert error.status is None
    assert error.headers == {}
    assert error.body == b''
    assert error.by_proxy is False
    headers = twspy.Headers([('Retry-After', '5')])
    error = HandshakeError('refused', 503, headers, b'later')
    assert str(error) == 'refused; body: later; header fields: Retry-After'
    assert repr(error) == "HandshakeError('refused')"
    assert error.status == 503
    assert error.headers is headers
    assert error.headers['retry-after'] == '5'
    assert error.body == b'later'
    # OSError takes two arguments for an errno and its text.
    assert error.errno is None
    assert HandshakeError('no', 404, [('a', 'b')]).headers == {'a': 'b'}
    assert HandshakeError('no', status=404, body=b'x').body == b'x'


@pytest.mark.parametrize(
    ('body', 'kind', 'shown'),
    [
        (b'no, thank you\n', 'text/plain', 'no, thank you'),
        (b'{"error": 5}', 'application/json; charset=utf-8', '{"error": 5}'),
        (b'<p>no</p>', 'Text/HTML', '<p>no</p>'),
        (b'<e/>', 'application/problem+xml', '<e/>'),
        (b'no type', None, 'no type'),
        (b'\x89PNG', 'image/png', ''),
        (b'a\r\n\t b\n\n', 'text/plain', 'a b'),
        (b'\x1b[31m\x00\xff', 'text/plain', '\\x1b[31m\\x00\ufffd'),
        ('grüße \u202e'.encode(), 'text/plain', 'grüße \\u202e'),
        (b'x' * 121, 'text/plain', 'x' * 120 + '...'),
        (b' ' * 900 + b'x' * 10000, 'text/plain', 'x' * 60),
        (b' \n', 'text/plain', ''),
    ],
)
def test_how_a_body_is_shown(
    body: bytes, kind: str | None, shown: str
) -> None:
    fields = {} if kind is None else {'Content-Type': kind}
    error = HandshakeError('no', 400, twspy.Headers(fields), body)
    text = str(error).partition('; header')[0]
    assert text == (f'no; body: {shown}' if shown else 'no')
    assert text.isprintable()
    packed = twspy.Headers({**fields, 'content-encoding': 'gzip'})
    assert 'body' not in str(HandshakeError('no', 400, packed, body))


def test_a_hostile_answer_stays_in_its_line() -> None:
    error = HandshakeError('a\r\nb\x1b[1m\x9b', 400)
    assert str(error) == 'a\\r\\nb\\x1b[1m\\x9b'
    headers = twspy.Headers({'Set-Cookie': 's3cret', 'X' * 5000: '1'})
    error = HandshakeError('no', 400, headers)
    assert str(error) == (f'no; header fields: Set-Cookie, {"X" * 108}...')
    headers = twspy.Headers({f'X-{n}': '1' for n in range(100)})
    assert len(str(HandshakeError('no', 400, headers))) < 200


def test_hostile_reasons_stay_in_their_line() -> None:
    reason = 'a\r\nb\x1b[1m\u202e'
    shown = 'a\\r\\nb\\x1b[1m\\u202e'
    assert str(SocketClosed(4000, reason)).endswith(f': {shown}')
    assert str(SocketClosed(4000, '', reason)).endswith(f'; {shown}')
    error = SocketClosed(4000, '', reason, ended_by='peer')
    assert str(error).endswith(f': {shown}')
    assert error.detail == reason


def test_protocol_error() -> None:
    error = ProtocolError('bad frame')
    assert (str(error), error.code) == ('bad frame', 1002)
    error = ProtocolError('bad text', 1007)
    assert (str(error), error.code) == ('bad text', 1007)
    assert ProtocolError('bad text', code=1007).code == 1007


@pytest.mark.parametrize(
    ('arguments', 'text', 'shown'),
    [
        (
            (),
            'connection closed: 1006 (no close frame received)',
            'SocketClosed(1006)',
        ),
        (
            (1000,),
            'connection closed: 1000 (normal closure)',
            'SocketClosed(1000)',
        ),
        (
            (1001, 'bye'),
            'connection closed: 1001 (going away): bye',
            "SocketClosed(1001, 'bye')",
        ),
        (
            (1006, '', 'no pong within 20 s'),
            'connection closed: 1006 (no close frame received); '
            'no pong within 20 s',
            "SocketClosed(1006, '', 'no pong within 20 s')",
        ),
        (
            (4000, 'done', 'all sent'),
            'connection closed: 4000: done; all sent',
            "SocketClosed(4000, 'done', 'all sent')",
        ),
    ],
)
def test_socket_closed(
    arguments: tuple[Any, ...], text: str, shown: str
) -> None:
    error = SocketClosed(*arguments)
    code, reason, detail = (*arguments, *(1006, '', '')[len(arguments) :])
    assert (error.code, error.reason, error.detail) == (code, reason, detail)
    assert str(error) == text
    assert repr(error) == shown
    assert error.errno is None


ENDED = SocketClosed(
    1006,
    'Broken pipe',
    'ended by the network: 1006 (Broken pipe); and so on',
    ended_by='network',
    sent=(1001, 'bye'),
    received=(1005, ''),
    errno=32,
    unsent=7,
    ping_age=0.0,
)


def test_socket_closed_with_all_there_is_to_know() -> None:
    error = SocketClosed()
    assert error.ended_by is None
    assert error.sent is None
    assert error.received is None
    assert error.unsent == 0
    assert error.ping_age is None
    error = ENDED
    assert (error.code, error.reason) == (1006, 'Broken pipe')
    assert error.ended_by == 'network'
    assert (error.sent, error.received) == ((1001, 'bye'), (1005, ''))
    assert (error.errno, error.unsent, error.ping_age) == (32, 7, 0.0)
    assert error.strerror is None
    assert error.args == ()
    assert str(error) == (
        'connection closed (no close frame received): ended by the network: '
        '1006 (Broken pipe); and so on'
    )
    assert repr(eval(repr(error))) == repr(error)
    assert repr(SocketClosed(4000, ended_by='us', unsent=1)) == (
        "SocketClosed(4000, ended_by='us', unsent=1)"
    )
    assert str(SocketClosed(4000, 'done', 'ended by us', ended_by='us')) == (
        'connection closed: ended by us'
    )
    assert str(SocketClosed(4000, 'done', ended_by='us')) == (
        'connection closed: 4000: done'
    )
    with pytest.raises(TypeError):
        SocketClosed(1006, '', '', 'us')  # type: ignore[misc]


def test_every_close_code_has_a_meaning() -> None:
    codes = [
        getattr(twspy, name) for name in dir(twspy) if name[:6] == 'CLOSE_'
    ]
    assert len(codes) == 15
    for code in codes:
        assert f'{code} (' in str(SocketClosed(code))


@pytest.mark.parametrize('kind', [PingError, ConcurrencyError, SSLError])
def test_plain_errors(kind: type[WebSocketError]) -> None:
    error = kind('what went wrong')
    assert str(error) == 'what went wrong'
    assert error.args == ('what went wrong',)


class Special(HandshakeError):
    """A subclass, as a user may define one."""


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'error',
    [
        WebSocketError('text'),
        HandshakeError('no'),
        HandshakeError('no', 403, twspy.Headers([('A', 'b')]), b'body'),
        Special('no', 403, (), b'body'),
        ProtocolError('bad', 1007),
        SocketClosed(),
        SocketClosed(1001, 'bye', 'detail'),
        ENDED,
        PingError('too long'),
        ConcurrencyError('twice'),
        SSLError('certificate expired'),
    ],
)
def test_pickle_and_copy(error: WebSocketError, protocol: int) -> None:
    error.add_note('a note')
    for again in (
        pickle.loads(pickle.dumps(error, protocol)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert repr(again) == repr(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        if isinstance(error, OSError):
            assert again.errno == error.errno


def test_what_the_core_raises() -> None:
    with pytest.raises(ProtocolError) as caught:
        twspy.Frame.unpack(b'\x83\x00')
    assert caught.value.code == 1002
    assert 'opcode' in str(caught.value)
