"""`Message`, `TextMessage`, `BinaryMessage` and `CloseMessage`."""

import array
import copy
import gc
import inspect
import json
import pickle
import sys
from typing import Any

import pytest

import twspy
from twspy import (
    BinaryMessage,
    CloseMessage,
    ControlFrame,
    Frame,
    Message,
    TextMessage,
)

TYPES = [Message, TextMessage, BinaryMessage, CloseMessage]


class Words(str):
    pass


class Octets(bytes):
    pass


# --- text and binary ---


@pytest.mark.parametrize('text', ['', 'hello', 'é€😀', 'a\x00b', Words('w')])
def test_text(text: str) -> None:
    for message in TextMessage(text), TextMessage(payload=text):
        assert message.opcode == twspy.OPCODE_TEXT
        assert message.payload == text
        assert type(message.payload) is str
        assert message.frame() == Frame(1, text)
        assert type(message) is TextMessage


@pytest.mark.parametrize('payload', [b'x', bytearray(b'x'), memoryview(b'x')])
def test_text_of_bytes_names_the_way_out(payload: Any) -> None:
    with pytest.raises(TypeError, match='decode it, or use BinaryMessage'):
        TextMessage(payload)


@pytest.mark.parametrize('payload', [None, 5, ['x'], {}])
def test_payload_of_another_type(payload: Any) -> None:
    name = type(payload).__name__
    for kind in TextMessage, BinaryMessage:
        with pytest.raises(TypeError, match=f'got {name}'):
            kind(payload)


def test_text_without_utf8_form() -> None:
    with pytest.raises(UnicodeEncodeError):
        TextMessage('lone \udfff')
    with pytest.raises(UnicodeEncodeError):
        TextMessage(payload='lone \udfff')


@pytest.mark.parametrize(
    ('payload', 'expected'),
    [
        (b'', b''),
        (b'\x00\xff', b'\x00\xff'),
        (Octets(b'octets'), b'octets'),
        (bytearray(b'array'), b'array'),
        (memoryview(b'every other')[::2], b'eeyohr'),
        (array.array('B', [1, 2]), b'\x01\x02'),
    ],
)
def test_binary(payload: Any, expected: bytes) -> None:
    for message in BinaryMessage(payload), BinaryMessage(payload=payload):
        assert message.opcode == twspy.OPCODE_BINARY
        assert message.payload == expected
        assert type(message.payload) is bytes
        assert message.frame() == Frame(2, expected)
        assert type(message) is BinaryMessage


def test_binary_of_str_names_the_way_out() -> None:
    with pytest.raises(TypeError, match='encode it, or use TextMessage'):
        BinaryMessage('x')


def test_binary_is_a_copy() -> None:
    source = bytearray(b'before')
    message = BinaryMessage(source)
    source[:] = b'after'
    assert message.payload == b'before'
    source.clear()  # no export is left behind


@pytest.mark.parametrize('kind', [TextMessage, BinaryMessage])
def test_number_of_arguments(kind: Any) -> None:
    payload = 'x' if kind is TextMessage else b'x'
    for arguments, keywords in [
        ((), {}),
        ((payload, payload), {}),
        ((), {'text': payload}),
        ((payload,), {'payload': payload}),
        ((payload,), {'other': 1}),
        ((), {'payload': payload, 'other': 1}),
    ]:
        with pytest.raises(TypeError):
            kind(*arguments, **keywords)


# --- any opcode ---


@pytest.mark.parametrize('opcode', [1, 2, 3, 7, 9, 10, 11, 15])
def test_message_of_any_opcode(opcode: int) -> None:
    expected = 'hé' if opcode == 1 else 'hé'.encode()
    for payload in 'hé', 'hé'.encode(), bytearray('hé'.encode()):
        for message in (
            Message(opcode, payload),
            Message(payload=payload, opcode=opcode),
        ):
            assert message.opcode == opcode
            assert message.payload == expected
            assert type(message.payload) is type(expected)
            frame = message.frame()
            assert frame == Frame(opcode, 'hé')
            assert type(frame) is (ControlFrame if opcode >= 8 else Frame)


@pytest.mark.parametrize('opcode', [-1, 0, 16, 1 << 70])
def test_opcode_out_of_range(opcode: int) -> None:
    with pytest.raises(ValueError, match=f'1 to 15, got {opcode}'):
        Message(opcode, b'')


def test_message_errors() -> None:
    with pytest.raises(TypeError, match='opcode must be an int, got str'):
        Message('1', b'')
    with pytest.raises(TypeError, match='got int'):
        Message(2, 5)
    with pytest.raises(UnicodeDecodeError):
        Message(1, b'\xff')
    with pytest.raises(UnicodeEncodeError):
        Message(1, '\ud800')
    with pytest.raises(UnicodeEncodeError):
        Message(2, '\ud800')
    with pytest.raises(TypeError):
        Message(1)
    for opcode in range(9, 16):
        assert len(Message(opcode, b'x' * 125).payload) == 125
        with pytest.raises(ValueError, match='at most 125 bytes, got 126'):
            Message(opcode, b'x' * 126)


def test_a_close_message_has_a_type_of_its_own() -> None:
    class Mine(Message):
        pass

    for payload in b'', b'\x03\xe8bye', 'bye':
        for kind in Message, Mine:
            with pytest.raises(ValueError, match=r'by CloseMessage\('):
                kind(twspy.OPCODE_CLOSE, payload)
    with pytest.raises(ValueError):
        Pong('x', twspy.OPCODE_CLOSE)


# --- close ---


def test_close_defaults() -> None:
    message = CloseMessage()
    assert (message.code, message.reason) == (1000, '')
    assert message.opcode == twspy.OPCODE_CLOSE
    assert message.payload == b'\x03\xe8'
    frame = message.frame()
    assert type(frame) is ControlFrame
    assert frame.unpack_close() == (1000, '')


SENDABLE = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
HELD = [1005, 1006, 1015]


@pytest.mark.parametrize('code', SENDABLE)
def test_close_code_that_can_be_sent(code: int) -> None:
    message = CloseMessage(code, 'wörds')
    assert message.code == code
    assert message.reason == 'wörds'
    assert message.payload == code.to_bytes(2, 'big') + 'wörds'.encode()
    assert message.frame().unpack_close() == (code, 'wörds')
    assert message.frame(mask=True).mask is True


@pytest.mark.parametrize(
    ('code', 'why'),
    [(1005, 'had no code'), (1006, 'without a Close'), (1015, 'TLS')],
)
def test_close_code_that_is_only_held(code: int, why: str) -> None:
    message = CloseMessage(code)
    assert (message.code, message.reason) == (code, '')
    assert message.payload == b''
    with pytest.raises(ValueError, match=f'{code} .*{why}.* never sent'):
        message.frame()
    with pytest.raises(ValueError, match='never sent'):
        message.fragment(10)


def test_every_other_close_code() -> None:
    for code in range(-2, 65540):
        if code in SENDABLE or code in HELD or 3000 <= code <= 4999:
            assert CloseMessage(code).code == code
        else:
            with pytest.raises(ValueError):
                CloseMessage(code)
    for code in (1 << 16) + 1000, (1 << 32) + 1000, 1 << 70, -(1 << 70):
        with pytest.raises(ValueError, match=f'got {code}'):
            CloseMessage(code)


@pytest.mark.parametrize('code', ['1000', None, 1000.0])
def test_close_code_of_another_type(code: Any) -> None:
    with pytest.raises(TypeError, match='code must be an int, got'):
        CloseMessage(code)


@pytest.mark.parametrize('reason', [b'bye', None, 5])
def test_close_reason_of_another_type(reason: Any) -> None:
    with pytest.raises(TypeError, match='reason must be str, got'):
        CloseMessage(1000, reason)


def test_close_reason_length() -> None:
    assert len(CloseMessage(1000, 'x' * 123).payload) == 125
    with pytest.raises(ValueError, match=r'at most 123 bytes .* got 124'):
        CloseMessage(1000, 'x' * 124)
    assert len(CloseMessage(1000, 'é' * 61).payload) == 124
    with pytest.raises(ValueError, match=r'at most 123 bytes .* got 124'):
        CloseMessage(1000, 'é' * 62)
    with pytest.raises(ValueError, match='at most 123'):
        CloseMessage(1006, 'x' * 124)


def test_close_reason() -> None:
    message = CloseMessage(reason=Words('bye'), code=1001)
    assert type(message.reason) is str
    assert message.reason == 'bye'
    assert CloseMessage(1006, 'timed out').reason == 'timed out'
    with pytest.raises(ValueError, match='1005'):
        CloseMessage(1005, 'x')
    with pytest.raises(UnicodeEncodeError):
        CloseMessage(1000, '\ud800')


# --- frames ---


@pytest.mark.parametrize(
    'message',
    [
        TextMessage('héllo'),
        BinaryMessage(b'hello'),
        CloseMessage(1001, 'bye'),
        Message(9, 'ping'),
    ],
)
def test_frame_with_and_without_mask(message: Message) -> None:
    bare = message.frame()
    assert bare.mask is False
    assert bare.final is True
    assert bare.opcode == message.opcode
    keys = {message.frame(mask=True).masking_key for _ in range(20)}
    assert len(keys) == 20
    assert all(len(key) == 4 for key in keys)
    masked = message.frame(True)
    assert masked == bare
    assert Frame.unpack(masked.pack()) == (bare, len(bare.pack()) + 4)


def test_fragment() -> None:
    parts = TextMessage('a€').fragment(2)
    assert [part.payload for part in parts] == [b'a\xe2', b'\x82\xac']
    assert [part.opcode for part in parts] == [1, 0]
    assert [part.final for part in parts] == [False, True]
    assert [part.mask for part in parts] == [False, False]
    parts = BinaryMessage(b'12345').fragment(size=2, mask=True)
    assert [part.payload for part in parts] == [b'12', b'34', b'5']
    assert len({part.masking_key for part in parts}) == 3
    assert TextMessage('').fragment(1) == [Frame(1, '')]


def test_fragment_errors() -> None:
    with pytest.raises(ValueError, match='at least 1, got 0'):
        TextMessage('x').fragment(0)
    with pytest.raises(TypeError):
        TextMessage('x').fragment('2')
    for message in CloseMessage(), Message(9, 'ping'):
        with pytest.raises(ValueError, match="can't be fragmented"):
            message.fragment(1)


# --- JSON ---


@pytest.mark.parametrize('value', [None, 1.5, 'é', [1, {'a': True}], {}])
def test_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert TextMessage(text).json() == value
    assert Message(1, text).json() == value
    assert BinaryMessage(text.encode()).json() == value


def test_json_options_and_errors() -> None:
    message = TextMessage('{"a": 1.5}')
    assert message.json(parse_float=str) == {'a': '1.5'}
    with pytest.raises(json.JSONDecodeError):
        TextMessage('{').json()
    with pytest.raises(TypeError):
        message.json(1)
    with pytest.raises(TypeError):
        message.json(no_such_option=1)


# --- as a value ---


def test_equality() -> None:
    assert TextMessage('x') == TextMessage('x') == Message(1, b'x')
    assert BinaryMessage(b'x') == Message(2, 'x')
    assert hash(TextMessage('x')) == hash(Message(1, 'x'))
    assert not TextMessage('x') != Message(1, 'x')
    assert CloseMessage(1001, 'a') == CloseMessage(1001, 'a')
    assert hash(CloseMessage(1001)) == hash(CloseMessage(1001))
    assert CloseMessage(1006, 'a') == CloseMessage(1006, 'a')
    different = [
        TextMessage('x'),
        TextMessage('y'),
        BinaryMessage(b'x'),
        Message(9, b'x'),
        Message(10, b'x'),
        CloseMessage(1005),
        CloseMessage(1000),
        CloseMessage(1001),
        CloseMessage(1001, 'x'),
        CloseMessage(1006),
        CloseMessage(1006, 'x'),
        CloseMessage(1015),
    ]
    for i, a in enumerate(different):
        for j, b in enumerate(different):
            assert (a == b) is (i == j), (a, b)
            assert (a != b) is (i != j), (a, b)
    assert len(set(different)) == len(different)
    kinds = [Message(opcode, 'x') for opcode in (1, 2, 3, 9, 10)]
    assert len({hash(message) for message in kinds}) == len(kinds)


def test_comparison_with_others() -> None:
    assert TextMessage('x') != 'x'
    assert BinaryMessage(b'x') != b'x'
    assert TextMessage('x') != Frame(1, 'x')
    with pytest.raises(TypeError):
        TextMessage('x') < TextMessage('y')  # noqa: B015


def test_a_message_is_true() -> None:
    assert TextMessage('')
    assert BinaryMessage(b'')


@pytest.mark.parametrize(
    ('message', 'expected'),
    [
        (TextMessage('a\nb'), r"<TextMessage 'a\nb'>"),
        (
            TextMessage('é' * 5000),
            f"<TextMessage '{'é' * 32}'... (5000 characters)>",
        ),
        (BinaryMessage(b'\x00'), r"<BinaryMessage b'\x00'>"),
        (
            BinaryMessage(b'x' * 33),
            f"<BinaryMessage b'{'x' * 32}'... (33 bytes)>",
        ),
        (Message(1, 'x'), "<Message TEXT 'x'>"),
        (Message(9, 'x'), "<Message PING b'x'>"),
        (Message(5, 'x'), "<Message opcode 5 b'x'>"),
        (CloseMessage(), '<CloseMessage 1000>'),
        (CloseMessage(1006, 'gone'), "<CloseMessage 1006 'gone'>"),
    ],
)
def test_repr(message: Message, expected: str) -> None:
    assert repr(message) == expected


@pytest.mark.parametrize(
    'message',
    [TextMessage('x'), BinaryMessage(b'x'), Message(9, 'x'), CloseMessage()],
)
def test_a_message_never_changes(message: Any) -> None:
    before = (message.opcode, message.payload)
    for name in 'opcode', 'payload', 'code', 'reason', 'other':
        with pytest.raises((AttributeError, TypeError)):
            setattr(message, name, 1)
    message.__init__('other')
    assert (message.opcode, message.payload) == before
    with pytest.raises(TypeError):
        type(message).opcode = 3
    assert not hasattr(message, '__dict__')


# --- subclasses ---


class Plain(TextMessage):
    """A subclass that changes nothing, with attributes."""


class JSONMessage(TextMessage):
    """A subclass with arguments of its own, as the manual shows it."""

    def __init__(self, **data: Any) -> None:
        super().__init__(json.dumps(data))
        self.data = data


class Shouted(TextMessage):
    def __new__(cls, payload: str, mark: str = '!') -> 'Shouted':
        return super().__new__(cls, payload.upper() + mark)


class Both(BinaryMessage):
    def __new__(cls, count: int, tag: str) -> 'Both':
        return super().__new__(cls, bytes(count))

    def __init__(self, count: int, tag: str) -> None:
        super().__init__(b'ignored: __new__ has set it')
        self.tag = tag


class Leaving(CloseMessage):
    def __init__(self, who: str) -> None:
        super().__init__(1001, reason=f'{who} leaves')


class Pong(Message):
    def __init__(self, payload: str, opcode: int = twspy.OPCODE_PONG) -> None:
        Message.__init__(self, opcode, payload)


class Forgetful(TextMessage):
    def __init__(self) -> None:
        pass


class ForgetfulClose(CloseMessage):
    def __init__(self) -> None:
        pass


def test_subclass_without_a_constructor() -> None:
    for message in Plain('x'), Plain(payload='x'):
        message.tag = 1
        assert message == TextMessage('x')
        assert repr(message) == "<Plain 'x'>"
    with pytest.raises(TypeError):
        Plain(b'x')
    with pytest.raises(TypeError):
        Plain()


def test_subclass_with_init() -> None:
    message = JSONMessage(foo='Hello', bar=1)
    assert message.payload == '{"foo": "Hello", "bar": 1}'
    assert message.json() == message.data
    assert message.frame() == Frame(1, message.payload)
    # Once made, it does not change either.
    TextMessage.__init__(message, 'other')
    assert message.json() == message.data
    assert Pong('x') == Message(10, 'x')
    message = Leaving('she')
    assert message.frame().unpack_close() == (1001, 'she leaves')


def test_subclass_with_new() -> None:
    assert Shouted('hey').payload == 'HEY!'
    assert Shouted('hey', mark='?').payload == 'HEY?'
    message = Both(3, tag='t')
    assert (message.payload, message.tag) == (bytes(3), 't')


def test_subclass_whose_init_forgets_ours() -> None:
    for message in Forgetful(), ForgetfulClose():
        for use in (
            message.frame,
            lambda message=message: message.fragment(1),
        ):
            with pytest.raises(RuntimeError, match='did not call super'):
                use()
        assert len(message.payload) == 0
        assert type(message).__name__ in repr(message)
        hash(message)
        assert message != TextMessage('')
        assert message != CloseMessage(1005)
    with pytest.raises(RuntimeError):
        copy.copy(ForgetfulClose())


def test_base_class_init_follows_the_object() -> None:
    class Odd(TextMessage):
        def __init__(self) -> None:
            Message.__init__(self, twspy.OPCODE_BINARY, b'x')

    with pytest.raises(TypeError):
        Odd()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'message',
    [
        TextMessage('é'),
        BinaryMessage(b'\xff'),
        Message(9, b'ping'),
        Message(1, 'text'),
        CloseMessage(1001, 'bye'),
        CloseMessage(1006, 'gone'),
        Plain('x'),
    ],
)
def test_pickle_and_copy(message: Message, protocol: int) -> None:
    if isinstance(message, Plain):
        message.tag = 'tag'
    for again in (
        pickle.loads(pickle.dumps(message, protocol)),
        copy.copy(message),
        copy.deepcopy(message),
    ):
        assert type(again) is type(message)
        assert again == message
        assert getattr(again, 'tag', None) == getattr(message, 'tag', None)
        if isinstance(message, CloseMessage):
            assert (again.code, again.reason) == (message.code, message.reason)


def test_a_subclass_of_two_kinds_is_a_close_message() -> None:
    class Odd(TextMessage, CloseMessage):
        pass

    message = Odd(1001, 'bye')
    assert message == CloseMessage(1001, 'bye')
    assert message.frame().unpack_close() == (1001, 'bye')
    with pytest.raises(TypeError):
        Odd(b'x')


# --- types ---


def test_types_are_twspy_s_own() -> None:
    for kind in TYPES:
        assert kind.__module__ == 'twspy'
        assert getattr(twspy, kind.__name__) is kind
        assert issubclass(kind, Message)


@pytest.mark.parametrize(
    ('function', 'signature'),
    [
        (Message, '(opcode, payload)'),
        (TextMessage, '(payload)'),
        (BinaryMessage, '(payload)'),
        (CloseMessage, "(code=1000, reason='')"),
        (TextMessage('').frame, '(mask=False)'),
        (TextMessage('').fragment, '(size, mask=False)'),
        (TextMessage('').json, '(**options)'),
    ],
)
def test_signatures(function: Any, signature: str) -> None:
    assert str(inspect.signature(function)) == signature
    assert inspect.getdoc(function)


def test_every_public_name_has_a_docstring() -> None:
    for kind in TYPES:
        for name in dir(kind):
            if not name.startswith('_'):
                assert inspect.getdoc(getattr(kind, name)), name


def test_no_reference_is_lost_or_kept() -> None:
    text = 'a text of its own, é'
    data = b'some bytes of their own'
    counted = [text, data, *TYPES, Plain, JSONMessage]

    def use() -> None:
        for message in (
            TextMessage(text),
            TextMessage(payload=text),
            BinaryMessage(data),
            BinaryMessage(payload=data),
            Message(1, text),
            Message(2, data),
            CloseMessage(1001, text),
            Plain(text),
            JSONMessage(a=text),
            Shouted(text),
        ):
            repr(message)
            hash(message)
            copy.copy(Plain(text))
            assert message != TextMessage('another')
            assert copy.copy(TextMessage(text)) == TextMessage(text)
            message.frame(mask=True)
            if message.opcode < 8:
                message.fragment(3, mask=True)
        assert TextMessage('{"a": 1}').json() == {'a': 1}
        for kind, bad in (
            (TextMessage, (data,)),
            (TextMessage, (text, text)),
            (BinaryMessage, (text,)),
            (Message, (0, text)),
            (Message, (9, data * 10)),
            (CloseMessage, (1004, text)),
            (CloseMessage, (1000, text * 10)),
            (CloseMessage, (1005, text)),
        ):
            with pytest.raises((TypeError, ValueError)):
                kind(*bad)

    def count() -> list[int]:
        # Tracebacks of expected errors may hold objects in a circle.
        gc.collect()
        return [sys.getrefcount(object) for object in counted]

    use()
    before = count()
    for _ in range(100):
        use()
    assert count() == before
