"""DeflateMessage, DeflateFrame and WebkitDeflateFrame: what they take, what
they offer and agree on, and what they make of frames; Python's zlib is the
second implementation."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from zlibends import Deflater, Inflater

import twspy
from twspy import DeflateFrame, DeflateMessage, Frame, WebkitDeflateFrame
from twspy.extensions import Extension

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
WORDS = b'The quick brown fox jumps over the lazy dog. '

Types = type[DeflateMessage] | type[DeflateFrame]
ALL: list[Types] = [DeflateMessage, DeflateFrame, WebkitDeflateFrame]
Params = dict[str, str | None]


def text_of(length: int, seed: int = 1) -> bytes:
    """Words in some order: it can be compressed, but not to nothing."""
    words = WORDS.split()
    choose = random.Random(seed)
    out = bytearray()
    while len(out) < length:
        out += choose.choice(words) + b' '
    return bytes(out[:length])


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def as_server(made: Any = None, **params: str | None) -> Any:
    """One that has agreed on the server, with these parameters offered."""
    made = DeflateMessage() if made is None else made
    assert made.negotiate(params) is not None
    return made


def as_client(made: Any = None, **params: str | None) -> Any:
    made = DeflateMessage() if made is None else made
    made.accept(params)
    return made


# --- as extensions ---


@pytest.mark.parametrize('cls', ALL)
def test_is_an_extension(cls: Types) -> None:
    made = cls()
    assert isinstance(made, Extension)
    assert issubclass(cls, Extension)
    assert cls.__module__ == 'twspy'
    for one in (cls, made):
        assert one.rsv1 is True
        assert one.rsv2 is False
        assert one.rsv3 is False
        assert one.opcodes == ()


def test_names_are_those_of_the_class_too() -> None:
    expected = [
        ('permessage-deflate', ('permessage-deflate',), True),
        ('deflate-frame', ('deflate-frame', 'x-webkit-deflate-frame'), False),
        ('x-webkit-deflate-frame', ('x-webkit-deflate-frame',), False),
    ]
    for cls, (name, names, whole) in zip(ALL, expected, strict=True):
        for one in (cls, cls()):
            assert one.name == name
            assert one.names == names
            assert one.before_fragmentation is whole


@pytest.mark.parametrize('cls', ALL)
def test_an_instance_may_get_the_name_that_was_agreed_on(cls: Types) -> None:
    made = cls()
    made.name = 'x-other'
    assert made.name == 'x-other'
    assert cls().name == cls.name != 'x-other'


@pytest.mark.parametrize('cls', ALL)
def test_signature_tells_the_defaults(cls: Types) -> None:
    made = cls()
    parameters = inspect.signature(cls).parameters
    for name, parameter in parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert getattr(made, name) == parameter.default, name
    again = cls(**{name: p.default for name, p in parameters.items()})
    assert repr(again) == repr(made)


def test_arguments_are_attributes() -> None:
    options: dict[str, Any] = {
        'server_no_context_takeover': True,
        'client_no_context_takeover': True,
        'server_max_window_bits': 9,
        'client_max_window_bits': 10,
        'level': 3,
        'mem_level': 4,
        'threshold': 1000,
        'shared': True,
    }
    message = DeflateMessage(**options)
    for name, value in options.items():
        assert getattr(message, name) == value
        with pytest.raises(AttributeError):
            setattr(message, name, value)
    options = {
        'max_window_bits': 11,
        'no_context_takeover': True,
        'level': 0,
        'mem_level': 9,
        'threshold': 0,
    }
    frame = DeflateFrame(**options)
    for name, value in options.items():
        assert getattr(frame, name) == value
        with pytest.raises(AttributeError):
            setattr(frame, name, value)
    assert frame.peer_max_window_bits is None
    assert frame.peer_no_context_takeover is None


BITS = [
    (7, ValueError, 'is 7, expected an int from 8 to 15 or None for no limit'),
    (16, ValueError, 'is 16, expected an int from 8 to 15'),
    (-1, ValueError, 'is -1, expected'),
    (10**30, ValueError, 'is more than'),
    ('15', TypeError, 'is str, expected an int from 8 to 15'),
    (9.0, TypeError, 'is float, expected'),
    (False, TypeError, 'is bool, expected'),
]
BAD = [
    *[('server_max_window_bits', *bad) for bad in BITS],
    ('server_max_window_bits', True, TypeError, 'is bool, expected'),
    *[('client_max_window_bits', *bad) for bad in BITS],
    ('level', -2, ValueError, 'is -2, expected an int from -1 to 9'),
    ('level', 10, ValueError, 'is 10, expected'),
    ('level', -(10**30), ValueError, 'is -10+, expected'),
    ('level', None, TypeError, 'is NoneType, expected an int from -1 to 9'),
    ('level', True, TypeError, 'is bool, expected'),
    ('mem_level', 0, ValueError, 'is 0, expected an int from 1 to 9'),
    ('mem_level', 10, ValueError, 'is 10, expected'),
    ('mem_level', None, TypeError, 'is NoneType, expected'),
    ('threshold', -1, ValueError, 'is -1, expected an int of at least 0'),
    ('threshold', None, TypeError, 'is NoneType, expected'),
    ('threshold', 'all', TypeError, 'is str, expected'),
]


@pytest.mark.parametrize(('name', 'value', 'error', 'words'), BAD)
def test_bad_arguments(
    name: str, value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f'^{name} {words}'):
        DeflateMessage(**{name: value})
    if name in ('level', 'mem_level', 'threshold'):
        for cls in (DeflateFrame, WebkitDeflateFrame):
            with pytest.raises(error, match=f'^{name} {words}'):
                cls(**{name: value})


@pytest.mark.parametrize(('value', 'error', 'words'), BITS)
def test_bad_bits_of_frames(
    value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f'^max_window_bits {words}'):
        DeflateFrame(max_window_bits=value)


@pytest.mark.parametrize('cls', ALL)
def test_arguments_are_named(cls: Any) -> None:
    with pytest.raises(TypeError):
        cls(True)
    with pytest.raises(TypeError):
        cls(window=15)


@pytest.mark.parametrize('cls', ALL)
def test_an_instance_is_made_once(cls: Any) -> None:
    made = cls(level=1)
    with pytest.raises(RuntimeError, match='was called before'):
        made.__init__(level=2)
    assert made.level == 1


# --- what is offered ---

NO_SERVER = 'server_no_context_takeover'
NO_CLIENT = 'client_no_context_takeover'
SERVER_BITS = 'server_max_window_bits'
CLIENT_BITS = 'client_max_window_bits'


@pytest.mark.parametrize(
    ('options', 'offer'),
    [
        ({}, {CLIENT_BITS: None}),
        ({CLIENT_BITS: None}, {}),
        ({CLIENT_BITS: 9}, {CLIENT_BITS: '9'}),
        (
            {CLIENT_BITS: 15, SERVER_BITS: 8},
            {SERVER_BITS: '8', CLIENT_BITS: '15'},
        ),
        (
            {NO_SERVER: True, NO_CLIENT: True, SERVER_BITS: 12},
            {
                NO_SERVER: None,
                NO_CLIENT: None,
                SERVER_BITS: '12',
                CLIENT_BITS: None,
            },
        ),
        (
            {'shared': True, CLIENT_BITS: None},
            {NO_SERVER: None, NO_CLIENT: None},
        ),
    ],
)
def test_offers_of_messages(options: dict[str, Any], offer: Params) -> None:
    assert DeflateMessage(**options).offer() == offer


@pytest.mark.parametrize('cls', [DeflateFrame, WebkitDeflateFrame])
def test_offers_of_frames(cls: type[DeflateFrame]) -> None:
    assert cls().offer() == {}
    assert cls(max_window_bits=8).offer() == {'max_window_bits': '8'}
    made = cls(max_window_bits=15, no_context_takeover=True)
    assert made.offer() == {
        'max_window_bits': '15',
        'no_context_takeover': None,
    }


# --- what a server answers (RFC 7692 section 7.1) ---


def terms_of(made: DeflateMessage) -> tuple[bool, bool, int, int]:
    bits = made.server_max_window_bits, made.client_max_window_bits
    assert isinstance(bits[0], int)
    assert isinstance(bits[1], int)
    return (
        made.server_no_context_takeover,
        made.client_no_context_takeover,
        *bits,
    )


@pytest.mark.parametrize(
    ('options', 'offer', 'answer', 'terms'),
    [
        ({}, {}, {}, (False, False, 12, 15)),
        (
            {},
            {CLIENT_BITS: None},
            {CLIENT_BITS: '12'},
            (False, False, 12, 12),
        ),
        # Nothing is asked for.
        (
            {CLIENT_BITS: None},
            {CLIENT_BITS: None},
            {},
            (False, False, 12, 15),
        ),
        (
            {SERVER_BITS: 15},
            {},
            {SERVER_BITS: '15'},
            (False, False, 15, 15),
        ),
        (
            {CLIENT_BITS: 10},
            {CLIENT_BITS: None},
            {CLIENT_BITS: '10'},
            (False, False, 12, 10),
        ),
        # It can ask only those that have offered it.
        ({CLIENT_BITS: 10}, {}, {}, (False, False, 12, 15)),
        # A value is a hint, and taken.
        (
            {},
            {CLIENT_BITS: '9'},
            {CLIENT_BITS: '9'},
            (False, False, 12, 9),
        ),
        (
            {CLIENT_BITS: 12},
            {CLIENT_BITS: '9'},
            {CLIENT_BITS: '9'},
            (False, False, 12, 9),
        ),
        (
            {},
            {SERVER_BITS: '10'},
            {SERVER_BITS: '10'},
            (False, False, 10, 15),
        ),
        (
            {SERVER_BITS: 9},
            {SERVER_BITS: '10'},
            {SERVER_BITS: '9'},
            (False, False, 9, 15),
        ),
        (
            {SERVER_BITS: 9},
            {},
            {SERVER_BITS: '9'},
            (False, False, 9, 15),
        ),
        ({}, {NO_SERVER: None}, {NO_SERVER: None}, (True, False, 12, 15)),
        ({}, {NO_CLIENT: None}, {NO_CLIENT: None}, (False, True, 12, 15)),
        (
            {NO_CLIENT: True},
            {},
            {NO_CLIENT: None},
            (False, True, 12, 15),
        ),
        (
            {NO_SERVER: True},
            {},
            {NO_SERVER: None},
            (True, False, 12, 15),
        ),
        (
            {'shared': True},
            {},
            {NO_SERVER: None, NO_CLIENT: None},
            (True, True, 12, 15),
        ),
    ],
)
def test_answers_of_messages(
    options: dict[str, Any],
    offer: Params,
    answer: Params,
    terms: tuple[bool, bool, int, int],
) -> None:
    made = DeflateMessage(**options)
    assert made.agreed is False
    assert made.negotiate(offer) == answer
    assert made.agreed is True
    assert terms_of(made) == terms


DECLINED: list[Params] = [
    {'unknown': None},
    {NO_SERVER: 'true'},
    {NO_CLIENT: ''},
    {SERVER_BITS: None},
    {SERVER_BITS: '7'},
    {SERVER_BITS: '16'},
    {SERVER_BITS: '08'},
    {SERVER_BITS: '+9'},
    {SERVER_BITS: ''},
    {SERVER_BITS: '\u0661\u0665'},
    {CLIENT_BITS: '7'},
    {CLIENT_BITS: '15 '},
    {'Server_max_window_bits': '10'},
]


@pytest.mark.parametrize('params', DECLINED)
def test_bad_offers_are_declined(params: Params) -> None:
    made = DeflateMessage()
    assert made.negotiate(params) is None
    assert made.agreed is False
    assert made.negotiate({}) == {}


# --- what a client accepts ---


@pytest.mark.parametrize(
    ('options', 'answer', 'terms'),
    [
        ({}, {}, (False, False, 15, 12)),
        ({}, {NO_SERVER: None}, (True, False, 15, 12)),
        ({}, {NO_CLIENT: None}, (False, True, 15, 12)),
        ({}, {SERVER_BITS: '9'}, (False, False, 9, 12)),
        ({}, {CLIENT_BITS: '9'}, (False, False, 15, 9)),
        ({CLIENT_BITS: 12}, {CLIENT_BITS: '9'}, (False, False, 15, 9)),
        ({CLIENT_BITS: 15}, {}, (False, False, 15, 15)),
        ({}, {CLIENT_BITS: '15'}, (False, False, 15, 12)),
        # What it has said of itself holds.
        ({CLIENT_BITS: 12}, {}, (False, False, 15, 12)),
        ({NO_CLIENT: True}, {}, (False, True, 15, 12)),
        ({SERVER_BITS: 12}, {SERVER_BITS: '12'}, (False, False, 12, 12)),
        ({SERVER_BITS: 12}, {SERVER_BITS: '8'}, (False, False, 8, 12)),
        ({NO_SERVER: True}, {NO_SERVER: None}, (True, False, 15, 12)),
        (
            {'shared': True},
            {NO_SERVER: None},
            (True, True, 15, 12),
        ),
    ],
)
def test_accepted_answers(
    options: dict[str, Any],
    answer: Params,
    terms: tuple[bool, bool, int, int],
) -> None:
    made = DeflateMessage(**options)
    made.accept(answer)
    assert made.agreed is True
    assert terms_of(made) == terms


@pytest.mark.parametrize(
    ('options', 'answer', 'words'),
    [
        *[({}, params, '.') for params in DECLINED],
        ({}, {CLIENT_BITS: None}, 'has no value'),
        ({CLIENT_BITS: None}, {CLIENT_BITS: '15'}, 'was not offered'),
        ({SERVER_BITS: 10}, {SERVER_BITS: '11'}, 'of 11, expected 10'),
        ({SERVER_BITS: 10}, {}, 'of 15, expected 10'),
        ({NO_SERVER: True}, {}, f'without {NO_SERVER}'),
        ({'shared': True}, {NO_CLIENT: None}, f'without {NO_SERVER}'),
    ],
)
def test_refused_answers(
    options: dict[str, Any], answer: Params, words: str
) -> None:
    made = DeflateMessage(**options)
    with pytest.raises(ValueError, match=words):
        made.accept(answer)
    assert made.agreed is False


@pytest.mark.parametrize('cls', [DeflateFrame, WebkitDeflateFrame])
@pytest.mark.parametrize('server', [False, True])
def test_frames_agree(cls: type[DeflateFrame], server: bool) -> None:
    def agree(made: DeflateFrame, **theirs: str | None) -> tuple[Any, ...]:
        if server:
            assert made.negotiate(theirs) == made.offer()
        else:
            made.accept(theirs)
        return (
            made.max_window_bits,
            made.no_context_takeover,
            made.peer_max_window_bits,
            made.peer_no_context_takeover,
        )

    assert agree(cls()) == (15, False, 12, False)
    assert agree(cls(), max_window_bits='9') == (15, False, 9, False)
    assert agree(cls(max_window_bits=9)) == (9, False, 12, False)
    assert agree(cls(), no_context_takeover=None) == (15, False, 12, True)
    # It does itself what it asks for.
    assert agree(cls(no_context_takeover=True)) == (15, True, 12, True)
    bad: list[Params] = [
        {'max_window_bits': None},
        {'max_window_bits': '16'},
        {'no_context_takeover': '1'},
        {'x': None},
    ]
    for theirs in bad:
        made = cls()
        if server:
            assert made.negotiate(theirs) is None
        else:
            with pytest.raises(ValueError, match='extension parameter'):
                made.accept(theirs)
        assert made.agreed is False


@pytest.mark.parametrize('cls', ALL)
def test_params_are_a_dict_of_str(cls: Any) -> None:
    for method in (cls().negotiate, cls().accept):
        for bad in (None, [], 'x', [('x', None)]):
            with pytest.raises(TypeError, match='expected a dict'):
                method(bad)
        with pytest.raises(TypeError, match='name of a parameter is int'):
            method({1: None})
        with pytest.raises(TypeError, match='value of a parameter is int'):
            method({'x': 1})
        with pytest.raises(UnicodeEncodeError):
            method({'\ud800': None})


@pytest.mark.parametrize('cls', ALL)
def test_what_is_agreed_on_stays(cls: Any) -> None:
    for made in (as_client(cls()), as_server(cls())):
        with pytest.raises(RuntimeError, match='that a connection uses'):
            made.negotiate({})
        with pytest.raises(RuntimeError, match='that a connection uses'):
            made.accept({})
        with pytest.raises(RuntimeError, match='called before'):
            made.__init__()


# --- copies ---


class WithMore(DeflateMessage):
    __slots__ = ('slot',)

    def __init__(self, slot: object, more: object) -> None:
        super().__init__(level=4)
        self.slot = slot
        self.more = more


@pytest.mark.parametrize('cls', ALL)
def test_a_copy_is_a_template(cls: Any) -> None:
    template = cls(level=2, mem_level=3, threshold=4)
    used = as_server(copy.copy(template))
    assert used.agreed
    assert not template.agreed
    again = copy.copy(used)
    assert type(again) is cls
    assert not again.agreed
    assert repr(again) == repr(template)
    as_client(again)


def test_a_copy_keeps_its_settings() -> None:
    options: dict[str, Any] = {
        NO_SERVER: True,
        NO_CLIENT: True,
        SERVER_BITS: 9,
        CLIENT_BITS: 10,
        'shared': True,
    }
    made = DeflateMessage(**options)
    made.max_size = 77
    again = copy.copy(made)
    assert repr(again) == repr(made)
    assert again.offer() == made.offer()
    assert again.max_size == 77
    with pytest.raises(RuntimeError, match='called before'):
        again.__init__()  # type: ignore[misc]
    frame = DeflateFrame(max_window_bits=9, no_context_takeover=True)
    assert copy.copy(frame).offer() == frame.offer()


def test_a_copy_has_what_a_subclass_has_added() -> None:
    made = WithMore([1], [2])
    again = copy.copy(made)
    assert type(again) is WithMore
    assert again.slot is made.slot
    assert again.more is made.more
    assert again.level == 4
    again.other = 3  # type: ignore[attr-defined]
    assert not hasattr(made, 'other')


class MeetsCopy:
    """An attribute that changes the copy of who has it while it is made."""

    def __init__(self, owner: DeflateMessage) -> None:
        self.owner = owner

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        owner = copy.deepcopy(self.owner, memo)
        value = MeetsCopy(owner)
        owner.given = value  # type: ignore[attr-defined]
        return weakref.ref(value)


def test_a_deep_copy_that_is_changed_while_it_is_made() -> None:
    class Named(DeflateMessage):
        kept: Any
        given: Any

    made = Named()
    made.kept = MeetsCopy(made)
    again = copy.deepcopy(made)
    value = again.kept
    assert value() is again.given
    del again
    gc.collect()
    assert value() is None  # nor is anything left


def test_a_deep_copy() -> None:
    made = WithMore([1], [2])
    made.max_size = 77
    made.me = made  # type: ignore[attr-defined]
    again, other = copy.deepcopy([made, made])
    assert again is other is not made
    assert type(again) is WithMore
    assert again.slot == [1] and again.slot is not made.slot
    assert again.more == [2] and again.more is not made.more
    assert again.me is again  # type: ignore[attr-defined]
    assert (again.level, again.max_size) == (4, 77)
    used = as_server(again)
    assert used.agreed and not made.agreed
    assert not copy.deepcopy(used).agreed


@pytest.mark.parametrize('cls', ALL)
def test_a_deep_copy_of_our_types(cls: Any) -> None:
    made = cls(level=3, mem_level=2, threshold=9)
    assert repr(copy.deepcopy(made)) == repr(made)
    as_client(copy.deepcopy({'compression': made})['compression'])


def test_a_deep_copy_of_what_can_not_be_copied() -> None:
    for slot, more in ((threading.Lock(), 1), (1, threading.Lock())):
        with pytest.raises(TypeError, match='lock'):
            copy.deepcopy(WithMore(slot, more))
    with pytest.raises(TypeError):
        DeflateMessage().__deepcopy__(None)  # type: ignore[arg-type]


@pytest.mark.parametrize('cls', ALL)
@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(cls: Any, protocol: int) -> None:
    text = f"cannot pickle 'twspy.{cls.__name__}' object: pickle the arguments"
    with pytest.raises(TypeError, match=text):
        pickle.dumps(cls(), protocol)


def test_a_subclass_can_be_pickled_by_its_own_rule() -> None:
    again = pickle.loads(pickle.dumps(Pickled(level=7)))
    assert type(again) is Pickled
    assert again.level == 7


class Pickled(DeflateMessage):
    def __reduce__(self) -> Any:
        return make_pickled, (self.level,)


def make_pickled(level: int) -> Pickled:
    return Pickled(level=level)


def test_a_subclass_may_forget_our_init() -> None:
    class Forgetful(DeflateMessage):
        def __init__(self, ignored: int) -> None:
            self.ignored = ignored

    made = copy.copy(Forgetful(3))
    assert made.ignored == 3
    assert made.offer() == {} != DeflateMessage().offer()
    assert as_server(made).onsend(Frame(TEXT, text_of(500))).rsv1


def test_a_cycle_is_collected() -> None:
    class Weak(DeflateMessage):
        me: Weak

    made = Weak()
    made.me = made
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


# --- how it looks ---


def test_repr() -> None:
    made = DeflateMessage(level=3, server_max_window_bits=10)
    assert repr(made) == (
        'DeflateMessage(server_no_context_takeover=False, '
        'client_no_context_takeover=False, server_max_window_bits=10, '
        'client_max_window_bits=True, level=3, mem_level=5, threshold=64, '
        'shared=False)'
    )
    assert repr(as_server(made)).startswith(
        '<DeflateMessage of a server: server_no_context_takeover=False, '
    )
    frame = WebkitDeflateFrame(max_window_bits=9)
    assert repr(frame) == (
        'WebkitDeflateFrame(max_window_bits=9, no_context_takeover=False, '
        'level=-1, mem_level=5, threshold=64)'
    )
    as_client(frame, no_context_takeover=None)
    assert repr(frame) == (
        '<WebkitDeflateFrame of a client: max_window_bits=9, '
        'no_context_takeover=False, level=-1, mem_level=5, threshold=64, '
        'peer_max_window_bits=12, peer_no_context_takeover=True>'
    )
    assert repr(WithMore(1, 2)).startswith('WithMore(server_no_')


# --- frames that are sent ---

PAYLOADS = [
    b'',
    b'x',
    text_of(64),
    text_of(5000),
    noise(3000),
    bytes(40_000),
    text_of(300_000),
    noise(70_000),
]


def agreed(
    server: bool, bits: int, takeover: bool, **options: Any
) -> DeflateMessage:
    """What sends with these."""
    made = DeflateMessage(threshold=0, **options)
    if server:
        params: Params = {SERVER_BITS: str(bits)}
        return as_server(
            made, **params | ({} if takeover else {NO_SERVER: None})
        )
    params = {CLIENT_BITS: str(bits)}
    return as_client(made, **params | ({} if takeover else {NO_CLIENT: None}))


@pytest.mark.parametrize('takeover', [True, False])
@pytest.mark.parametrize('bits', range(8, 16))
@pytest.mark.parametrize('server', [True, False])
def test_zlib_inflates_what_is_sent(
    server: bool, bits: int, takeover: bool
) -> None:
    made = agreed(server, bits, takeover)
    inflate = Inflater(bits, takeover)
    for payload in PAYLOADS * 2:
        frame = made.onsend(Frame(BINARY, payload))
        assert (frame.opcode, frame.final, frame.rsv1) == (BINARY, True, True)
        assert inflate(frame.payload) == payload


@pytest.mark.parametrize('level', range(-1, 10))
def test_levels(level: int) -> None:
    made = agreed(True, 15, True, level=level, mem_level=max(level, 1))
    inflate = Inflater()
    payload = text_of(100_000)
    frame = made.onsend(Frame(TEXT, payload))
    assert inflate(frame.payload) == payload
    assert (len(frame) < len(payload)) == (level != 0)


def test_a_context_is_taken_over_or_not() -> None:
    payload = noise(1000)
    lengths = {}
    for takeover in (True, False):
        made = agreed(True, 15, takeover)
        made.onsend(Frame(BINARY, payload))
        lengths[takeover] = len(made.onsend(Frame(BINARY, payload)))
    assert lengths[True] < 50
    assert lengths[False] > 1000


def test_windows_keep_to_the_limit() -> None:
    """What is repeated beyond the window is not found again."""
    payload = noise(1000) + bytes(2000) + noise(1000)
    narrow = agreed(True, 10, True).onsend(Frame(BINARY, payload))
    wide = agreed(True, 12, True).onsend(Frame(BINARY, payload))
    assert len(narrow) > 2000
    assert len(wide) < 1200


def test_below_the_threshold_frames_stay() -> None:
    made = as_server(DeflateMessage(threshold=100))
    small = Frame(TEXT, b'a' * 99)
    assert made.onsend(small) is small
    assert made.onsend(Frame(TEXT, b'a' * 100)).rsv1
    assert as_server(DeflateMessage(threshold=0)).onsend(Frame(TEXT, '')).rsv1


def test_frames_that_are_not_for_compression_stay() -> None:
    made = as_client(DeflateMessage(threshold=0))
    payload = text_of(100)
    for frame in (
        Frame(PING, payload),
        Frame(CLOSE, b''),
        Frame(TEXT, payload, final=False),
        Frame(CONTINUATION, payload, final=False),
        Frame(CONTINUATION, payload),
        Frame(BINARY, payload, rsv1=True),
    ):
        assert made.onsend(frame) is frame
    sent = made.onsend(Frame(TEXT, payload, rsv2=True, rsv3=True))
    assert (sent.rsv1, sent.rsv2, sent.rsv3) == (True, True, True)


def test_what_was_compressed_elsewhere_is_not_referred_to() -> None:
    payload = noise(1000)
    made = as_server()
    made.onsend(Frame(BINARY, payload))
    made.onsend(Frame(BINARY, Deflater()(payload), rsv1=True))
    assert Inflater()(made.onsend(Frame(BINARY, payload)).payload) == payload


@pytest.mark.parametrize('takeover', [True, False])
@pytest.mark.parametrize('cls', [DeflateFrame, WebkitDeflateFrame])
def test_every_frame_of_a_message_is_compressed(
    cls: type[DeflateFrame], takeover: bool
) -> None:
    made = as_client(cls(no_context_takeover=not takeover))
    back = as_server(cls(no_context_takeover=not takeover))
    inflate = Inflater(15, takeover)
    payload = text_of(500)
    for frame in (
        Frame(TEXT, payload, final=False),
        Frame(CONTINUATION, payload, final=False),
        Frame(CONTINUATION, payload),
        Frame(BINARY, payload),
    ):
        sent = made.onsend(frame)
        assert sent.rsv1
        assert (sent.opcode, sent.final) == (frame.opcode, frame.final)
        assert inflate(sent.payload) == payload
        assert back.onrecv(sent) == frame
    small = Frame(CONTINUATION, b'small')
    assert made.onsend(small) is small
    assert back.onrecv(small) is small


# --- frames that are received ---


@pytest.mark.parametrize('takeover', [True, False])
@pytest.mark.parametrize('bits', range(8, 16))
@pytest.mark.parametrize('server', [True, False])
def test_what_zlib_deflates_is_received(
    server: bool, bits: int, takeover: bool
) -> None:
    made = DeflateMessage(client_max_window_bits=15)
    params: Params = {CLIENT_BITS if server else SERVER_BITS: str(bits)}
    if not takeover:
        params[NO_CLIENT if server else NO_SERVER] = None
    (as_server if server else as_client)(made, **params)
    deflate = Deflater(bits, takeover)
    for payload in PAYLOADS * 2:
        sent = Frame(TEXT, deflate(payload), rsv1=True)
        assert made.onrecv(sent) == Frame(TEXT, payload)


def test_fragments_are_inflated_one_by_one() -> None:
    made = as_client()
    deflate = Deflater()
    for round_ in range(3):
        payload = text_of(200, round_)
        packed = deflate(payload)
        for cut in range(len(packed) + 1):
            again = packed if cut == 0 else deflate(payload)
            first = Frame(BINARY, again[:cut], final=False, rsv1=True)
            last = Frame(CONTINUATION, again[cut:])
            one = made.onrecv(first)
            # What comes between does not matter.
            ping = Frame(PING, 'x')
            assert made.onrecv(ping) is ping
            two = made.onrecv(last)
            assert one == Frame(BINARY, one.payload, final=False)
            assert two == Frame(CONTINUATION, two.payload)
            assert one.payload + two.payload == payload
            plain = Frame(TEXT, 'plain', final=False)
            assert made.onrecv(plain) is plain
            rest = Frame(CONTINUATION, 'rest')
            assert made.onrecv(rest) is rest


def test_byte_by_byte() -> None:
    made = as_server()
    payload = text_of(3000)
    packed = Deflater()(payload)
    got = b''
    for i, byte in enumerate(packed):
        frame = Frame(
            CONTINUATION if i else TEXT,
            bytes([byte]),
            final=i == len(packed) - 1,
            rsv1=i == 0,
        )
        got += made.onrecv(frame).payload
    assert got == payload


def failing(made: Any, *frames: Frame) -> int:
    for frame in frames[:-1]:
        made.onrecv(frame)
    with pytest.raises(twspy.ProtocolError) as caught:
        made.onrecv(frames[-1])
    return caught.value.code


def test_misplaced_bits_fail() -> None:
    packed = Deflater()(text_of(100))
    for make in (DeflateMessage, DeflateFrame):
        for opcode in (PING, CLOSE):
            frame = Frame(opcode, b'', rsv1=True)
            assert failing(as_client(make()), frame) == 1002
    begin = Frame(TEXT, packed[:20], final=False, rsv1=True)
    marked = Frame(CONTINUATION, packed[20:], rsv1=True)
    assert failing(as_client(), begin, marked) == 1002
    plain = Frame(TEXT, 'x', final=False)
    assert failing(as_client(), plain, marked) == 1002
    assert failing(as_client(), begin, Frame(TEXT, 'x')) == 1002
    assert failing(as_client(), begin, begin) == 1002


@pytest.mark.parametrize(
    'data',
    [
        b'\xff\xff\xff',
        b'\x07\x00',  # a block of the reserved type
        Deflater()(text_of(300))[:-3],
        Deflater()(text_of(300)) + b'\x01',
    ],
)
def test_broken_data_fails(data: bytes) -> None:
    for make in (DeflateMessage, DeflateFrame):
        frame = Frame(BINARY, data, rsv1=True)
        assert failing(as_client(make()), frame) == 1007


def test_an_empty_message_may_have_no_bytes() -> None:
    """As others send it: RFC 7692 section 7.2.3.6 has it in one byte."""
    for make in (DeflateMessage, DeflateFrame):
        made = as_client(make())
        deflate = Deflater()
        for payload in (b'', text_of(300), b'', b'', text_of(300), b''):
            packed = deflate(payload) if payload else b''
            frame = Frame(BINARY, packed, rsv1=True)
            assert made.onrecv(frame).payload == payload


def test_a_window_that_is_too_large_fails() -> None:
    """Where it matters: no more than was agreed on is kept."""
    made = as_client(**{SERVER_BITS: '9'})
    deflate = Deflater(15)
    frames = [Frame(BINARY, deflate(noise(2000)), rsv1=True) for _ in range(2)]
    assert failing(made, *frames) == 1007


@pytest.mark.parametrize('length', [0, 1, 255, 256, 257, 65536, 1_000_000])
def test_the_limit_is_exact(length: int) -> None:
    packed = Deflater()(bytes(length))
    made = as_client()
    made.max_size = length
    frame = Frame(BINARY, packed, rsv1=True)
    assert made.onrecv(frame).payload == bytes(length)
    if length > 0:
        made = as_client()
        made.max_size = length - 1
        assert failing(made, frame) == 1009


def test_max_size() -> None:
    made = as_client()
    assert made.max_size == 1 << 20
    bomb = Frame(BINARY, Deflater()(bytes((1 << 20) + 1)), rsv1=True)
    assert failing(made, bomb) == 1009
    made = as_client()
    made.max_size = None
    assert made.max_size is None
    assert len(made.onrecv(bomb)) == (1 << 20) + 1
    with pytest.raises(TypeError, match='max_size is str, expected an int'):
        made.max_size = '1'
    with pytest.raises(ValueError, match='max_size is -1, expected an int'):
        made.max_size = -1
    with pytest.raises(AttributeError):
        del made.max_size


# --- misuse and threads ---


@pytest.mark.parametrize('cls', ALL)
def test_hooks_come_after_the_agreement(cls: Any) -> None:
    frame = Frame(TEXT, 'x')
    for made in (cls(), copy.copy(as_client(cls()))):
        for method in (made.onsend, made.onrecv):
            with pytest.raises(
                RuntimeError, match='before anything is agreed'
            ):
                method(frame)
    made = as_client(cls())
    for method in (made.onsend, made.onrecv):
        with pytest.raises(TypeError, match='frame is str, expected a Frame'):
            method('x')


def in_threads(call: Callable[[int], None], count: int = 4) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait()
            call(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_threads_may_compress_at_the_same_time() -> None:
    """Large frames are compressed without the GIL."""
    made = agreed(True, 15, False)
    taken = agreed(True, 15, True)
    sizes = (100, 3000, 50_000)

    def call(number: int) -> None:
        inflate = Inflater(15, takeover=False)
        for i in range(30):
            payload = text_of(sizes[i % 3], number * 100 + i)
            assert (
                inflate(made.onsend(Frame(TEXT, payload)).payload) == payload
            )
            taken.onsend(Frame(TEXT, payload))

    in_threads(call)


def test_threads_may_share_a_template() -> None:
    template = DeflateMessage(shared=True, threshold=0)

    def call(number: int) -> None:
        for i in range(20):
            one = as_server(copy.copy(template))
            two = as_client(
                copy.copy(template), **{NO_SERVER: None, NO_CLIENT: None}
            )
            payload = text_of(5000, number * 100 + i)
            sent = one.onsend(Frame(TEXT, payload))
            assert two.onrecv(sent).payload == payload
            assert one.onrecv(two.onsend(sent)) is not None

    in_threads(call)


def test_a_subclass_sees_the_frames() -> None:
    class Counting(DeflateMessage):
        count = 0

        def onsend(self, frame: Frame, /) -> Frame:
            self.count += 1
            return super().onsend(frame)

    made = as_server(Counting())
    assert made.onsend(Frame(TEXT, text_of(100))).rsv1
    assert made.count == 1
