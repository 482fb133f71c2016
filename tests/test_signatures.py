"""What is public is listed, documented and has a signature; stubs are compared
with the C module by stubtest (`make types`)."""

from __future__ import annotations

import inspect

import pytest

import twspy

CLASSES = [
    getattr(twspy, name)
    for name in twspy.__all__
    if inspect.isclass(getattr(twspy, name))
]
METHODS = [
    (cls, name)
    for cls in CLASSES
    for name, value in vars(cls).items()
    if not name.startswith('_') and callable(getattr(cls, name))
]


def test_all_lists_what_is_there() -> None:
    assert len(set(twspy.__all__)) == len(twspy.__all__)
    for name in twspy.__all__:
        assert hasattr(twspy, name), name
    public = {
        name
        for name, value in vars(twspy).items()
        if not name.startswith('_') and not inspect.ismodule(value)
    }
    assert public - {'annotations'} <= set(twspy.__all__)


def test_documented_names_are_there() -> None:
    """The names of the documented API, whatever else is added."""
    names = """websocket Frame ControlFrame Message TextMessage BinaryMessage
    CloseMessage Connection Server OPCODE_TEXT OPCODE_BINARY OPCODE_CLOSE
    OPCODE_PING OPCODE_PONG OPCODE_CONTINUATION CLOSE_NORMAL
    CLOSE_GOING_AWAY CLOSE_PROTOCOL_ERROR CLOSE_NOACCEPT_DTYPE
    CLOSE_NO_STATUS CLOSE_ABNORMAL CLOSE_INVALID_DATA CLOSE_POLICY
    CLOSE_MESSAGE_TOOBIG CLOSE_MISSING_EXTENSIONS CLOSE_UNABLE
    CLOSE_SERVICE_RESTART CLOSE_TRY_AGAIN_LATER CLOSE_BAD_GATEWAY
    CLOSE_TLS_FAILURE WebSocketError HandshakeError ProtocolError
    SocketClosed PingError SSLError connect pair Headers Request
    Response"""
    assert set(names.split()) <= set(twspy.__all__)


@pytest.mark.parametrize('cls', CLASSES, ids=lambda cls: cls.__name__)
def test_classes_have_signature_and_docstring(cls: type) -> None:
    assert cls.__module__.split('.')[0] == 'twspy'
    assert cls.__doc__
    others = (twspy.RecvStream, twspy.SendStream, twspy.Extension)
    if not issubclass(cls, twspy.WebSocketError) and cls not in others:
        assert inspect.signature(cls).parameters


@pytest.mark.parametrize(
    ('cls', 'name'), METHODS, ids=[f'{c.__name__}.{n}' for c, n in METHODS]
)
def test_methods_have_signature_and_docstring(cls: type, name: str) -> None:
    method = getattr(cls, name)
    assert inspect.getdoc(method), f'{cls.__name__}.{name} has no docstring'
    inspect.signature(method)


@pytest.mark.parametrize(
    ('target', 'expected'),
    [
        (
            twspy.Frame,
            "(opcode, payload, masking_key=b'', mask=False, final=True, "
            'rsv1=False, rsv2=False, rsv3=False)',
        ),
        (twspy.Connection, '(sock)'),
        (twspy.CloseMessage, "(code=1000, reason='')"),
        (
            twspy.Connection.send,
            '(self, /, message, fragment_size=None, *, compress=None, '
            'timeout=None)',
        ),
        (
            twspy.Connection.close,
            "(self, /, code=1000, reason='', *, timeout=None)",
        ),
        (
            twspy.Server.broadcast,
            "(self, /, message, to=None, exclude=None, slow='skip', *, "
            'compress=None)',
        ),
    ],
)
def test_signatures_are_those_promised(target: object, expected: str) -> None:
    assert str(inspect.signature(target)) == expected  # type: ignore[arg-type]
