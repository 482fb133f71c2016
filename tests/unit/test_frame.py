"""`Frame` and `ControlFrame` (RFC 6455 section 5)."""

import array
import copy
import gc
import inspect
import pickle
import random
import struct
import sys
from typing import Any

import pytest

import twspy
from twspy import ControlFrame, Frame

DATA_OPCODES = range(8)
CONTROL_OPCODES = range(8, 16)
KNOWN_OPCODES = [0, 1, 2, 8, 9, 10]
KEY = b'\x37\xfa\x21\x3d'


def reference_pack(frame: Frame) -> bytes:
    """RFC 6455 section 5.2, written out once more."""
    first = frame.opcode | frame.final << 7
    first |= frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
    second = 0x80 if frame.masking_key else 0
    length = len(frame.payload)
    if length < 126:
        head = struct.pack('>BB', first, second | length)
    elif length < 1 << 16:
        head = struct.pack('>BBH', first, second | 126, length)
    else:
        head = struct.pack('>BBQ', first, second | 127, length)
    if not frame.masking_key:
        return head + frame.payload
    key = frame.masking_key
    masked = bytes(b ^ key[i % 4] for i, b in enumerate(frame.payload))
    return head + key + masked


# --- construction ---


def test_defaults() -> None:
    frame = Frame(twspy.OPCODE_TEXT, 'hello')
    assert frame.opcode == 1
    assert frame.payload == b'hello'
    assert frame.masking_key == b''
    assert frame.mask is False
    assert frame.final is True
    assert (frame.rsv1, frame.rsv2, frame.rsv3) == (False, False, False)


def test_all_arguments_by_position_and_by_name() -> None:
    by_position = Frame(2, b'x', KEY, True, False, True, False, True)
    by_name = Frame(
        rsv3=True,
        rsv2=False,
        rsv1=True,
        final=False,
        mask=True,
        masking_key=KEY,
        payload=b'x',
        opcode=2,
    )
    for frame in by_position, by_name:
        assert frame.opcode == 2
        assert frame.payload == b'x'
        assert frame.masking_key == KEY
        assert frame.mask is True
        assert frame.final is False
        assert (frame.rsv1, frame.rsv2, frame.rsv3) == (True, False, True)


@pytest.mark.parametrize('bit', ['rsv1', 'rsv2', 'rsv3'])
def test_each_reserved_bit_alone(bit: str) -> None:
    frame = Frame(1, '', **{bit: True})
    for name in 'rsv1', 'rsv2', 'rsv3':
        assert getattr(frame, name) is (name == bit)
    assert frame.pack()[0] == 0x81 | {'rsv1': 64, 'rsv2': 32, 'rsv3': 16}[bit]


class Words(str):
    pass


class Octets(bytes):
    pass


@pytest.mark.parametrize(
    ('payload', 'expected'),
    [
        ('', b''),
        ('héllo €', 'héllo €'.encode()),
        (Words('words'), b'words'),
        (b'raw\x00', b'raw\x00'),
        (Octets(b'octets'), b'octets'),
        (bytearray(b'array'), b'array'),
        (memoryview(b'view'), b'view'),
        (memoryview(b'every other')[::2], b'eeyohr'),
        (array.array('H', [1, 2]), struct.pack('=HH', 1, 2)),
    ],
)
def test_payload_reads_back_as_bytes(payload: Any, expected: bytes) -> None:
    frame = Frame(2, payload)
    assert frame.payload == expected
    assert type(frame.payload) is bytes
    assert Frame(opcode=2, payload=payload).payload == expected


def test_payload_is_a_copy() -> None:
    source = bytearray(b'before')
    frame = Frame(2, source)
    source[:] = b'after'
    assert frame.payload == b'before'


@pytest.mark.parametrize('payload', [None, 7, [1, 2], ('a',), 1.5, {}])
def test_payload_of_another_type(payload: Any) -> None:
    name = type(payload).__name__
    with pytest.raises(TypeError, match=f'bytes-like object, got {name}'):
        Frame(2, payload)


def test_payload_without_utf8_form() -> None:
    with pytest.raises(UnicodeEncodeError):
        Frame(1, 'lone \ud800')


@pytest.mark.parametrize('opcode', range(16))
def test_every_opcode_of_four_bits(opcode: int) -> None:
    frame = Frame(opcode, b'')
    assert frame.opcode == opcode
    assert frame.pack() == bytes([0x80 | opcode, 0])


@pytest.mark.parametrize('opcode', [-1, 16, 256, 257, 1 << 70, -(1 << 70)])
def test_opcode_out_of_range(opcode: int) -> None:
    with pytest.raises(ValueError, match=f'0 to 15, got {opcode}'):
        Frame(opcode, b'')


@pytest.mark.parametrize('opcode', ['1', None, 1.0, b'\x01'])
def test_opcode_of_another_type(opcode: Any) -> None:
    with pytest.raises(TypeError, match='opcode must be an int, got'):
        Frame(opcode, b'')


@pytest.mark.parametrize('length', range(6))
def test_masking_key_length(length: int) -> None:
    key = bytes(range(1, length + 1))
    if length in (0, 4):
        frame = Frame(1, 'x', masking_key=key)
        assert frame.masking_key == key
        assert frame.mask is (length == 4)
    else:
        with pytest.raises(ValueError, match=f'4 bytes, got {length} bytes'):
            Frame(1, 'x', masking_key=key)


def test_masking_key_of_another_type() -> None:
    with pytest.raises(TypeError):
        Frame(1, 'x', masking_key='abcd')
    with pytest.raises(TypeError):
        Frame(1, 'x', masking_key=None)
    assert Frame(1, 'x', bytearray(KEY)).masking_key == KEY


def test_mask_draws_a_key_of_its_own() -> None:
    keys = {Frame(1, 'x', mask=True).masking_key for _ in range(2000)}
    assert all(len(key) == 4 for key in keys)
    # Two equal ones among so many are unlikely, a repeating source is not.
    assert len(keys) > 1990
    # Every bit of a key is drawn.
    ones = zeros = 0
    for key in keys:
        number = int.from_bytes(key, 'big')
        ones |= number
        zeros |= ~number & 0xFFFFFFFF
    assert ones == zeros == 0xFFFFFFFF


def test_mask_keeps_a_given_key() -> None:
    assert Frame(1, 'x', KEY, mask=True).masking_key == KEY
    assert Frame(1, 'x', KEY, mask=False).masking_key == KEY


@pytest.mark.parametrize('opcode', CONTROL_OPCODES)
@pytest.mark.parametrize('kind', [Frame, ControlFrame])
def test_control_frame_limits(kind: type[Frame], opcode: int) -> None:
    assert kind(opcode, b'x' * 125).payload == b'x' * 125
    with pytest.raises(ValueError, match='at most 125 bytes, got 126'):
        kind(opcode, b'x' * 126)
    # The limit is one of bytes, not of characters.
    with pytest.raises(ValueError, match='at most 125 bytes, got 126'):
        kind(opcode, 'é' * 63)
    with pytest.raises(ValueError, match='final must be True'):
        kind(opcode, b'', final=False)


@pytest.mark.parametrize('opcode', DATA_OPCODES)
def test_data_frame_has_no_such_limits(opcode: int) -> None:
    frame = Frame(opcode, b'x' * 126, final=False)
    assert len(frame) == 126
    assert frame.final is False


@pytest.mark.parametrize('opcode', DATA_OPCODES)
def test_control_frame_takes_control_opcodes_only(opcode: int) -> None:
    with pytest.raises(ValueError, match=f'8 to 15, got {opcode}'):
        ControlFrame(opcode, b'')


@pytest.mark.parametrize(
    'arguments', [(), (1,), (1, b'', b'', 0, 1, 0, 0, 0, 0)]
)
def test_number_of_arguments(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Frame(*arguments)


def test_unknown_keyword() -> None:
    with pytest.raises(TypeError):
        Frame(1, b'', fin=True)


@pytest.mark.parametrize(
    'name',
    'opcode payload masking_key mask final rsv1 rsv2 rsv3 other'.split(),
)
def test_a_frame_never_changes(name: str) -> None:
    frame = Frame(1, 'x', KEY)
    with pytest.raises((AttributeError, TypeError)):
        setattr(frame, name, 1)
    frame.__init__(2, b'other')
    assert (frame.opcode, frame.payload, frame.masking_key) == (1, b'x', KEY)
    with pytest.raises(TypeError):
        Frame.opcode = 3


# --- pack ---


@pytest.mark.parametrize(
    ('frame', 'wire'),
    [
        (Frame(1, 'Hello'), '810548656c6c6f'),
        (Frame(1, 'Hello', KEY), '818537fa213d7f9f4d5158'),
        (Frame(1, 'Hel', final=False), '010348656c'),
        (Frame(0, 'lo'), '80026c6f'),
        (Frame(9, 'Hello'), '890548656c6c6f'),
        (Frame(10, 'Hello', KEY), '8a8537fa213d7f9f4d5158'),
    ],
)
def test_examples_of_rfc_6455_section_5_7(frame: Frame, wire: str) -> None:
    assert frame.pack().hex() == wire
    again, consumed = Frame.unpack(bytes.fromhex(wire))
    assert consumed == len(wire) // 2
    assert again == frame
    assert again.masking_key == frame.masking_key


@pytest.mark.parametrize(
    ('length', 'head'),
    [
        (0, '8200'),
        (125, '827d'),
        (126, '827e007e'),
        (256, '827e0100'),
        (65535, '827effff'),
        (65536, '827f0000000000010000'),
    ],
)
def test_length_is_written_in_its_shortest_form(
    length: int, head: str
) -> None:
    payload = bytes(length)
    assert Frame(2, payload).pack() == bytes.fromhex(head) + payload
    packed = Frame(2, payload, b'abcd').pack()
    assert packed[1] == bytes.fromhex(head)[1] | 0x80
    assert packed[len(head) // 2 :] == b'abcd' + (b'abcd' * length)[:length]


def random_frames(seed: int, count: int) -> list[Frame]:
    source = random.Random(seed)
    frames = []
    for _ in range(count):
        opcode = source.choice(KNOWN_OPCODES)
        limit = source.choice([0, 3, 40, 125, 126, 300, 70000])
        control = opcode >= 8
        frames.append(
            Frame(
                opcode,
                source.randbytes(
                    source.randint(0, min(limit, 125) if control else limit)
                ),
                source.choice([b'', source.randbytes(4)]),
                final=control or source.random() < 0.5,
                rsv1=source.random() < 0.5,
                rsv2=source.random() < 0.5,
                rsv3=source.random() < 0.5,
            )
        )
    return frames


def test_pack_and_unpack_against_a_second_implementation() -> None:
    stream = bytearray()
    frames = random_frames(seed=1, count=300)
    for frame in frames:
        wire = frame.pack()
        assert wire == reference_pack(frame)
        stream += wire
    position = 0
    for frame in frames:
        again, consumed = Frame.unpack(memoryview(stream)[position:])
        assert again == frame
        assert again.masking_key == frame.masking_key
        assert consumed == len(frame.pack())
        position += consumed
    assert position == len(stream)


# --- unpack ---


@pytest.mark.parametrize('length', [0, 1, 125, 126, 65536])
@pytest.mark.parametrize('key', [b'', KEY])
def test_an_incomplete_frame(length: int, key: bytes) -> None:
    wire = Frame(2, b'x' * length, key).pack()
    cuts = {*range(min(len(wire), 20)), len(wire) // 2, len(wire) - 1}
    for cut in cuts:
        assert Frame.unpack(wire[:cut]) == (None, 0), cut
    frame, consumed = Frame.unpack(wire)
    assert frame is not None
    assert consumed == len(wire)


@pytest.mark.parametrize('length', [1 << 20, 1 << 40, (1 << 63) - 1])
def test_a_claimed_length_takes_no_memory(length: int) -> None:
    for mask in 0, 0x80:
        wire = struct.pack('>BBQ', 0x82, mask | 127, length) + b'12345678'
        assert Frame.unpack(wire) == (None, 0)


def test_bytes_behind_the_frame_are_left() -> None:
    wire = Frame(1, 'one').pack() + Frame(1, 'two').pack()
    frame, consumed = Frame.unpack(wire)
    assert (frame.payload, consumed) == (b'one', 5)
    frame, consumed = Frame.unpack(wire[consumed:])
    assert (frame.payload, consumed) == (b'two', 5)
    # Even where they can't be a frame.
    assert Frame.unpack(Frame(1, 'one').pack() + b'\xff\xff')[1] == 5


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
def test_unpack_from_bytes_like(kind: Any) -> None:
    buffer = kind(Frame(1, 'text', KEY).pack())
    frame, consumed = Frame.unpack(buffer)
    assert frame.payload == b'text'
    assert consumed == 10
    if kind is bytearray:
        buffer.clear()  # no export is left behind


@pytest.mark.parametrize('buffer', ['text', None, 5, [0x81, 0]])
def test_unpack_from_something_else(buffer: Any) -> None:
    with pytest.raises(TypeError):
        Frame.unpack(buffer)


@pytest.mark.parametrize(
    ('wire', 'about'),
    [
        ('8300', 'opcode'),
        ('8700', 'opcode'),
        ('8b00', 'opcode'),
        ('8f00', 'opcode'),
        ('0800', 'fragmented'),
        ('0900', 'fragmented'),
        ('887e', '125'),
        ('897e007e', '125'),
        ('827e007d', 'shortest'),
        ('827e0000', 'shortest'),
        ('827f000000000000ffff', 'shortest'),
        ('827f8000000000000000', 'bit'),
    ],
)
def test_bytes_that_are_no_frame(wire: str, about: str) -> None:
    with pytest.raises(twspy.ProtocolError, match=about) as caught:
        Frame.unpack(bytes.fromhex(wire))
    assert caught.value.code == 1002


@pytest.mark.parametrize('opcode', KNOWN_OPCODES)
def test_class_of_an_unpacked_frame(opcode: int) -> None:
    wire = bytes([0x80 | opcode, 0])
    expected = ControlFrame if opcode >= 8 else Frame

    class Mine(Frame):
        pass

    for kind in Frame, ControlFrame, Mine:
        frame, _ = kind.unpack(wire)
        assert type(frame) is expected


# --- fragment ---


@pytest.mark.parametrize('final', [True, False])
@pytest.mark.parametrize('mask', [True, False])
@pytest.mark.parametrize('opcode', DATA_OPCODES)
@pytest.mark.parametrize('size', [1, 2, 3, 9, 10, 11, 1 << 70])
def test_fragment(size: int, opcode: int, mask: bool, final: bool) -> None:
    payload = b'0123456789'
    frame = Frame(opcode, payload, KEY, final=final, rsv1=True, rsv3=True)
    parts = frame.fragment(size, mask=mask)
    assert len(parts) == max(1, -(-len(payload) // size))
    assert b''.join(part.payload for part in parts) == payload
    assert all(len(part) == size for part in parts[:-1])
    assert 0 < len(parts[-1]) <= size
    first, *others = parts
    assert first.opcode == opcode
    assert (first.rsv1, first.rsv2, first.rsv3) == (True, False, True)
    for part in others:
        assert part.opcode == twspy.OPCODE_CONTINUATION
        assert not (part.rsv1 or part.rsv2 or part.rsv3)
    assert [p.final for p in parts] == [False] * (len(parts) - 1) + [final]
    for part in parts:
        assert type(part) is Frame
        assert part.mask is mask
        assert part.masking_key != KEY
    if mask:
        assert len({part.masking_key for part in parts}) == len(parts)


def test_a_payload_that_fits_gives_one_frame() -> None:
    frame = Frame(1, 'hello')
    assert frame.fragment(5) == [frame]
    assert frame.fragment(sys.maxsize) == [frame]
    assert Frame(1, '').fragment(1) == [Frame(1, '')]


@pytest.mark.parametrize('size', [0, -1, -(1 << 70)])
def test_fragment_size_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match=f'at least 1, got {size}'):
        Frame(1, 'hello').fragment(size)


@pytest.mark.parametrize('size', ['1', None, 1.0])
def test_fragment_size_of_another_type(size: Any) -> None:
    with pytest.raises(TypeError):
        Frame(1, 'hello').fragment(size)


@pytest.mark.parametrize('opcode', CONTROL_OPCODES)
@pytest.mark.parametrize('kind', [Frame, ControlFrame])
def test_control_frames_are_not_fragmented(
    kind: type[Frame], opcode: int
) -> None:
    with pytest.raises(ValueError, match="can't be fragmented"):
        kind(opcode, b'12').fragment(1)
    with pytest.raises(ValueError, match="can't be fragmented"):
        kind(opcode, b'12').fragment(100)


def test_is_fragmented() -> None:
    assert Frame(1, 'x').is_fragmented() is False
    assert Frame(1, 'x', final=False).is_fragmented() is True
    assert Frame(0, 'x', final=False).is_fragmented() is True
    assert Frame(0, 'x', final=True).is_fragmented() is True
    assert ControlFrame(9, 'x').is_fragmented() is False


# --- unpack_close ---


@pytest.mark.parametrize(
    ('payload', 'expected'),
    [
        (b'', (1005, '')),
        (b'\x03\xe8', (1000, '')),
        (b'\x03\xe9bye \xe2\x82\xac', (1001, 'bye €')),
        (b'\x0f\xa0' + b'x' * 123, (4000, 'x' * 123)),
    ],
)
def test_unpack_close(payload: bytes, expected: tuple[int, str]) -> None:
    assert ControlFrame(8, payload).unpack_close() == expected


@pytest.mark.parametrize(
    ('payload', 'code'),
    [
        (b'\x03', 1002),
        (b'\x03\xed', 1002),
        (b'\x03\xee', 1002),
        (b'\x03\xf7', 1002),
        (b'\x00\x00', 1002),
        (b'\x03\xe8\xff', 1007),
        (b'\x03\xe8\xed\xa0\x80', 1007),
    ],
)
def test_unpack_close_of_a_bad_payload(payload: bytes, code: int) -> None:
    with pytest.raises(twspy.ProtocolError) as caught:
        ControlFrame(8, payload).unpack_close()
    assert caught.value.code == code


def test_unpack_close_of_another_frame() -> None:
    with pytest.raises(ValueError, match='not a Close frame but PING'):
        ControlFrame(9, b'\x03\xe8').unpack_close()


# --- as a value ---


def test_equality() -> None:
    frame = Frame(1, 'x')
    assert frame == Frame(1, b'x')
    assert frame == Frame(1, 'x', KEY) == Frame(1, 'x', mask=True)
    assert hash(frame) == hash(Frame(1, 'x', KEY))
    assert not frame != Frame(1, 'x')
    assert Frame(9, 'x') == ControlFrame(9, 'x')
    assert hash(Frame(9, 'x')) == hash(ControlFrame(9, 'x'))
    different = [
        frame,
        Frame(1, 'y'),
        Frame(2, 'x'),
        Frame(1, 'x', final=False),
        Frame(1, 'x', rsv1=True),
        Frame(1, 'x', rsv2=True),
        Frame(1, 'x', rsv3=True),
    ]
    for i, a in enumerate(different):
        for j, b in enumerate(different):
            assert (a == b) is (i == j)
            assert (a != b) is (i != j)
    assert len(set(different)) == len(different)
    assert len({hash(frame) for frame in different}) == len(different)


def test_comparison_with_others() -> None:
    frame = Frame(1, 'x')
    assert frame != b'x'
    assert frame != 'x'
    assert frame is not None
    assert frame != twspy.TextMessage('x')
    with pytest.raises(TypeError):
        frame < Frame(1, 'y')  # noqa: B015


def test_length_and_truth() -> None:
    assert len(Frame(1, 'é€')) == 5
    assert len(Frame(1, '')) == 0
    assert bool(Frame(1, ''))


@pytest.mark.parametrize(
    ('frame', 'expected'),
    [
        (Frame(1, 'Hello'), "<Frame TEXT b'Hello'>"),
        (ControlFrame(9, ''), "<ControlFrame PING b''>"),
        (Frame(3, b'\n'), "<Frame opcode 3 b'\\n'>"),
        (
            Frame(0, b'x', KEY, final=False, rsv1=True, rsv2=True, rsv3=True),
            "<Frame CONTINUATION b'x' final=False rsv1 rsv2 rsv3 masked>",
        ),
        (Frame(2, b'x' * 32), f"<Frame BINARY b'{'x' * 32}'>"),
        (
            Frame(2, b'x' * 5000),
            f"<Frame BINARY b'{'x' * 32}'... (5000 bytes)>",
        ),
    ],
)
def test_repr(frame: Frame, expected: str) -> None:
    assert repr(frame) == expected


@pytest.mark.parametrize('opcode', range(16))
def test_repr_of_every_opcode(opcode: int) -> None:
    text = repr(Frame(opcode, b''))
    names = {
        getattr(twspy, name): name.removeprefix('OPCODE_')
        for name in dir(twspy)
        if name.startswith('OPCODE_')
    }
    assert names.get(opcode, f'opcode {opcode}') in text


class Tagged(Frame):
    """A subclass that adds an attribute and a default."""

    def __init__(self, payload: str, tag: int = 0) -> None:
        super().__init__(twspy.OPCODE_TEXT, payload, mask=True)
        self.tag = tag


class Shouted(ControlFrame):
    """A subclass that changes what it is made of."""

    def __new__(cls, payload: str) -> 'Shouted':
        return super().__new__(cls, twspy.OPCODE_PING, payload.upper())


class Plain(Frame):
    """A subclass that changes nothing, with attributes."""


class Forgetful(Frame):
    """A subclass whose __init__ leaves out ours."""

    def __init__(self) -> None:
        pass


def test_subclass_with_init() -> None:
    frame = Tagged('text', tag=3)
    assert (frame.opcode, frame.payload, frame.tag) == (1, b'text', 3)
    assert len(frame.masking_key) == 4
    assert frame == Frame(1, 'text')
    assert repr(frame) == "<Tagged TEXT b'text' masked>"
    # Once made, it does not change either.
    Frame.__init__(frame, 2, b'other')
    assert (frame.opcode, frame.payload) == (1, b'text')


def test_subclass_with_init_that_fails() -> None:
    with pytest.raises(TypeError):
        Tagged(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Tagged('text', other=1)  # type: ignore[call-arg]


def test_subclass_with_new() -> None:
    frame = Shouted(payload='hey')
    assert (frame.opcode, frame.payload) == (9, b'HEY')
    with pytest.raises(ValueError):
        Shouted('x' * 126)


def test_subclass_whose_init_forgets_ours() -> None:
    frame = Forgetful()
    for use in frame.pack, lambda: frame.fragment(1):
        with pytest.raises(RuntimeError, match='did not call super'):
            use()
    assert frame.payload == b''
    assert frame.masking_key == b''
    assert 'Forgetful' in repr(frame)
    assert frame != Frame(0, b'')
    hash(frame)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'frame',
    [
        Frame(1, 'x', KEY, rsv2=True),
        Frame(2, b'\x00\xff', final=False, rsv1=True, rsv3=True),
        ControlFrame(9, b'ping'),
        Plain(1, 'x'),
    ],
)
def test_pickle_and_copy(frame: Frame, protocol: int) -> None:
    if isinstance(frame, Plain):
        frame.tag = 'tag'
    for again in (
        pickle.loads(pickle.dumps(frame, protocol)),
        copy.copy(frame),
        copy.deepcopy(frame),
    ):
        assert type(again) is type(frame)
        assert again == frame
        assert again.masking_key == frame.masking_key
        assert getattr(again, 'tag', None) == getattr(frame, 'tag', None)


def test_types_are_twspy_s_own() -> None:
    for kind in Frame, ControlFrame:
        assert kind.__module__ == 'twspy'
        assert getattr(twspy, kind.__name__) is kind
    assert issubclass(ControlFrame, Frame)
    assert not hasattr(Frame(1, ''), '__dict__')


SIGNATURE = (
    "(opcode, payload, masking_key=b'', mask=False, final=True, "
    'rsv1=False, rsv2=False, rsv3=False)'
)


@pytest.mark.parametrize(
    ('function', 'signature'),
    [
        (Frame, SIGNATURE),
        (ControlFrame, SIGNATURE),
        (Frame(1, '').pack, '()'),
        (Frame(1, '').fragment, '(size, mask=False)'),
        (Frame(1, '').is_fragmented, '()'),
        (Frame.unpack, '(buffer, /)'),
        (ControlFrame(8, '').unpack_close, '()'),
    ],
)
def test_signatures(function: Any, signature: str) -> None:
    assert str(inspect.signature(function)) == signature
    assert inspect.getdoc(function)


def test_every_public_name_has_a_docstring() -> None:
    for kind in Frame, ControlFrame:
        for name in dir(kind):
            if not name.startswith('_'):
                assert inspect.getdoc(getattr(kind, name)), name


def test_no_reference_is_lost_or_kept() -> None:
    payload = b'a payload of its own'
    wire = Frame(1, payload, KEY).pack()
    types = [Frame, ControlFrame]
    counted = [payload, wire, KEY, *types]

    def use() -> None:
        Frame(1, payload, KEY)
        frame = Frame(opcode=1, payload=payload, mask=True)
        frame.fragment(3, mask=True)
        frame.pack()
        repr(frame)
        hash(frame)
        assert frame == Frame(1, payload)
        Frame.unpack(wire)
        Frame.unpack(wire[:-1])
        ControlFrame(8, b'\x03\xe8').unpack_close()
        copy.copy(frame)
        Tagged('x')
        Shouted('x')
        Forgetful()
        for bad in (17, b''), (1, 5), (9, b'x' * 126), (1, payload, b'12'):
            with pytest.raises((TypeError, ValueError)):
                Frame(*bad)

    def count() -> list[int]:
        # Tracebacks of expected errors may hold objects in a circle.
        gc.collect()
        return [sys.getrefcount(object) for object in counted]

    use()
    before = count()
    for _ in range(100):
        use()
    assert count() == before
