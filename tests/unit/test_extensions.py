"""Extensions: their options, and what is offered and agreed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from extending import Mirror, Numbered, Plain, Shift, Signals

import twspy
from twspy import Extension, HandshakeError, Response, _negotiation, _twspy

RESPONSE = Response(101, {'X-Server': 'yes'})


def named(name: str, **attributes: Any) -> Any:
    """A subclass of Extension with that name."""
    return type('Made', (Extension,), {'name': name, **attributes})


# --- the grammar ---


@pytest.mark.parametrize(
    ('value', 'elements'),
    [
        ('', []),
        (' , ,', []),
        ('foo', [('foo', [])]),
        ('foo, bar ', [('foo', []), ('bar', [])]),
        ('foo;a', [('foo', [('a', None)])]),
        ('foo ; a = 1 ;b', [('foo', [('a', '1'), ('b', None)])]),
        ('foo; a="1"', [('foo', [('a', '1')])]),
        (r'foo; a="\1\2"; b="x\y"', [('foo', [('a', '12'), ('b', 'xy')])]),
        ('foo; a; a', [('foo', [('a', None), ('a', None)])]),
        ('foo; a=1, foo; a=2', [('foo', [('a', '1')]), ('foo', [('a', '2')])]),
    ],
)
def test_parsed(value: str, elements: list[Any]) -> None:
    assert _twspy._parse_extensions(value) == elements


@pytest.mark.parametrize(
    'value', ['foo;', 'foo=1', 'f oo', 'foo; a=', 'foo; a="', 'foo; a="b c"']
)
def test_broken_grammar(value: str) -> None:
    with pytest.raises(HandshakeError):
        _twspy._parse_extensions(value)


def test_only_text_is_parsed() -> None:
    with pytest.raises(TypeError, match='expected str'):
        _twspy._parse_extensions(b'foo')  # type: ignore[arg-type]


# --- options ---


def make_websocket(**options: Any) -> None:
    twspy.websocket(**options).close()


def make_server(**options: Any) -> None:
    twspy.Server(('127.0.0.1', 0), **options).stop()


def make_client(**options: Any) -> None:
    twspy.reconnect('ws://127.0.0.1:1/', **options).close()


MAKERS = [make_websocket, make_server, make_client]
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {'extensions': 'deflate'},
        TypeError,
        "^extensions is 'deflate', expected an iterable of Extension: write "
        "compression='deflate'$",
    ),
    (
        {'extensions': 'permessage-deflate' * 20},
        TypeError,
        "^extensions is 'perm.{95}, expected an iterable of Extension; "
        "compression is asked for with compression='deflate'$",
    ),
    (
        {'extensions': b'x'},
        TypeError,
        "^extensions is b'x', expected an iterable of Extension$",
    ),
    ({'extensions': 5}, TypeError, 'extensions is int, expected an iterable'),
    ({'extensions': None}, TypeError, 'extensions is NoneType'),
    (
        {'extensions': Plain},
        TypeError,
        '^extensions is the class Plain, expected an iterable of Extension: '
        r'write extensions=\[Plain\]$',
    ),
    (
        {'extensions': Shift(3)},
        TypeError,
        '^extensions is one Shift, expected an iterable of Extension: write '
        r'extensions=\[Shift\(\.\.\.\)\]$',
    ),
    (
        {'extensions': object},
        TypeError,
        '^extensions is the class object, expected an iterable of Extension$',
    ),
    (
        {'extensions': ['deflate']},
        TypeError,
        "^extensions has 'deflate', expected instances or subclasses of "
        "Extension: write compression='deflate'$",
    ),
    (
        {'extensions': [Plain, 'x-plain']},
        TypeError,
        "has 'x-plain', .*; compression is asked for with compression=",
    ),
    ({'extensions': [[Plain]]}, TypeError, 'has list, expected instances'),
    ({'extensions': [object]}, TypeError, 'expected instances or subclasses'),
    ({'extensions': [Extension]}, ValueError, "Extension has the name ''"),
    ({'extensions': [named('a b')]}, ValueError, "the name 'a b', expected a"),
    ({'extensions': [named('a', names='ab')]}, TypeError, 'names of Made is'),
    ({'extensions': [named('a', names=('',))]}, ValueError, "the name ''"),
    ({'extensions': [named('a', names=(1,))]}, ValueError, 'the name 1'),
    ({'extensions': [named('a', names=iter('a'))]}, TypeError, 'names of Ma'),
    ({'extensions': [named('a', rsv1=1)]}, TypeError, 'rsv1 of Made is 1'),
    ({'extensions': [named('a', rsv3=None)]}, TypeError, 'rsv3 of Made'),
    (
        {'extensions': [named('a', before_fragmentation='')]},
        TypeError,
        "before_fragmentation of Made is ''",
    ),
    ({'extensions': [named('a', opcodes=(2,))]}, ValueError, 'has 2, expect'),
    ({'extensions': [named('a', opcodes=(16,))]}, ValueError, 'has 16, exp'),
    ({'extensions': [named('a', opcodes=(8,))]}, ValueError, 'has 8, expec'),
    ({'extensions': [named('a', opcodes=(True,))]}, ValueError, 'has True'),
    ({'extensions': [named('a', opcodes='3')]}, ValueError, "has '3'"),
    ({'extensions': [named('a', opcodes=iter((3,)))]}, TypeError, 'opcodes o'),
    (
        {'compression': 'gzip'},
        ValueError,
        "is 'gzip', expected 'deflate'",
    ),
    (
        {'compression': 5},
        TypeError,
        "compression is int, expected 'defl",
    ),
    ({'compression': True}, TypeError, 'compression is bool'),
    ({'compression': ['deflate']}, TypeError, "compression has 'deflate'"),
    ({'compression': b'deflate'}, TypeError, "compression is b'd"),
    ({'compression': Extension}, ValueError, "Extension has the name ''"),
]


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize(('options', 'error', 'text'), WRONG)
def test_wrong_options(
    make: Callable[..., None],
    options: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text) as caught:
        make(**options)
    assert caught.type is error


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize(
    'options',
    [
        {'extensions': ()},
        {'extensions': [], 'compression': None},
        {'extensions': [Shift, Shift(3), Plain]},
        {'extensions': iter([Shift, Plain()])},
        {'compression': 'deflate'},
        {'compression': Plain},
        {'compression': Shift(2)},
        {'compression': [Shift, Plain()]},
        {'compression': iter([Shift, Plain()])},
        {'compression': ()},
    ],
)
def test_options_taken(
    make: Callable[..., None], options: dict[str, Any]
) -> None:
    make(**options)


def test_a_template_must_give_a_new_instance() -> None:
    class Same(Plain):
        def __copy__(self) -> Same:
            return self

    with pytest.raises(TypeError, match='expected a new Extension'):
        make_websocket(extensions=[Same()])


def test_what_a_template_raises_comes_out() -> None:
    class Fails(Plain):
        def __init__(self) -> None:
            raise LookupError('no luck')

    with pytest.raises(LookupError, match='no luck'):
        make_websocket(extensions=[Fails])


def offered(**options: Any) -> str:
    templates = _negotiation.read_templates(
        options.get('extensions', ()), options.get('compression')
    )
    return _negotiation.make_offer(templates)[0]


def test_compression_comes_behind_extensions() -> None:
    assert offered(extensions=[Plain], compression=Shift(4)) == (
        'x-plain, x-shift; by=4'
    )
    assert offered(extensions=[Plain], compression=[Shift, Mirror]) == (
        'x-plain, x-shift; by=1, x-mirror'
    )
    assert offered(extensions=[Plain], compression='deflate').startswith(
        'x-plain, permessage-deflate'
    )


def test_compression_that_is_among_the_extensions() -> None:
    assert offered(extensions=[Shift(2)], compression=Shift(4)) == (
        'x-shift; by=2'
    )
    mine = named('other', names=('permessage-deflate', 'other'))
    assert offered(extensions=[mine], compression='deflate') == 'other'


# --- offers ---


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({}, 'foo'),
        ({'a': None}, 'foo; a'),
        ({'a': 'b', 'c': 15, 'd': None}, 'foo; a=b; c=15; d'),
        ([], ''),
        ([{'a': 1}, {}], 'foo; a=1, foo'),
        (iter([{'a': 1}, {'a': 2}]), 'foo; a=1, foo; a=2'),
    ],
)
def test_offers(params: Any, text: str) -> None:
    made = named('foo', offer=lambda self: params)
    assert offered(extensions=[made]) == text


@pytest.mark.parametrize(
    ('params', 'error', 'match'),
    [
        (None, TypeError, 'foo returned NoneType, expected a mapping'),
        ('a', TypeError, 'foo returned str'),
        (['a'], TypeError, 'foo returned str'),
        ({1: 'a'}, TypeError, 'the parameter 1, expected a str'),
        ({'a': 1.5}, TypeError, "the parameter 'a' with 1.5"),
        ({'\x1f': 1.5}, TypeError, r"the parameter '\\x1f' with 1.5"),
        ({'a': True}, TypeError, "'a' with True"),
        ({'a': b'1'}, TypeError, "'a' with b'1'"),
        ({'a': 'b c'}, ValueError, "'a' with 'b c', expected tokens"),
        ({'a': ''}, ValueError, "'a' with ''"),
        ({'a': '"b"'}, ValueError, 'expected tokens'),
        ({'a': 'b\r\nX: y'}, ValueError, 'expected tokens'),
        ({'': 'b'}, ValueError, 'expected tokens'),
        ({'a,b': None}, ValueError, 'expected tokens'),
        ({'ä': None}, ValueError, 'expected tokens'),
        ({'a': 'b\n'}, ValueError, 'expected tokens'),
    ],
)
def test_wrong_offers(params: Any, error: Any, match: str) -> None:
    made = named('foo', offer=lambda self: params)
    with pytest.raises(error, match=match):
        offered(extensions=[made])
    answering = named('foo', negotiate=lambda self, _: params)
    if params is not None and params != ['a']:
        with pytest.raises(error, match=match.replace('foo ret', 'foo ret')):
            judge([answering], 'foo')


# --- a server judges offers ---


def judge(
    templates: list[Any], value: str
) -> tuple[tuple[Extension, ...], str]:
    return _negotiation.judge_offers(
        _negotiation.read_templates(templates, None),
        _twspy._parse_extensions(value),
    )


class Picky(Extension):
    """Takes what has size 1 or 2, and tells which."""

    name = 'picky'
    names = ('picky', 'choosy')

    def negotiate(self, params: dict[str, str | None]) -> Any:
        if params.get('size') not in ('1', '2'):
            return None
        self.size = params['size']
        return {'size': self.size, 'done': None}


@pytest.mark.parametrize(
    ('value', 'answered'),
    [
        ('', ''),
        ('foo', ''),
        ('picky', ''),
        ('picky; size=3', ''),
        ('picky; size=1', 'picky; size=1; done'),
        ('choosy; size="2"', 'choosy; size=2; done'),
        ('picky; size=3, picky; size=2', 'picky; size=2; done'),
        ('picky; size=1, picky; size=2', 'picky; size=1; done'),
        ('picky; size=1, choosy; size=2', 'picky; size=1; done'),
        ('picky; size=1; size=1, picky; size=2', 'picky; size=2; done'),
        ('foo, picky; size=1, x-plain', 'picky; size=1; done, x-plain'),
        ('x-plain, picky; size=1', 'x-plain, picky; size=1; done'),
        ('x-plain; a', ''),
        ('PICKY; size=1', ''),
    ],
)
def test_offers_judged(value: str, answered: str) -> None:
    assert judge([Picky, Plain], value)[1] == answered


def test_an_instance_for_each_connection() -> None:
    template = Picky()
    first, _ = judge([template], 'choosy; size=1')
    second, _ = judge([template], 'picky; size=2')
    assert (first[0].name, first[0].size) == ('choosy', '1')  # type: ignore[attr-defined]
    assert (second[0].name, second[0].size) == ('picky', '2')  # type: ignore[attr-defined]
    assert template.name == 'picky'
    assert not hasattr(template, 'size')


def test_a_declined_offer_leaves_nothing_behind() -> None:
    class Marks(Plain):
        marked = False

        def negotiate(self, params: dict[str, str | None]) -> Any:
            assert not self.marked
            self.marked = True
            return {} if 'good' in params else None

    agreed, answered = judge([Marks()], 'x-plain, x-plain; good')
    assert (len(agreed), answered) == (1, 'x-plain')


def test_the_first_template_that_fits() -> None:
    agreed, _ = judge(
        [named('foo', negotiate=lambda self, _: None), Plain, named('foo')],
        'foo',
    )
    assert len(agreed) == 1
    assert agreed[0].negotiate({}) == {}


@pytest.mark.parametrize(
    ('more', 'answered'),
    [
        ({}, 'foo, bar'),
        ({'rsv1': True}, 'foo'),
        ({'rsv2': True}, 'foo, bar'),
        ({'opcodes': (5, 7)}, 'foo'),
        ({'opcodes': (7,)}, 'foo, bar'),
    ],
)
def test_conflicts_skip_an_offer(more: dict[str, Any], answered: str) -> None:
    foo = named('foo', rsv1=True, opcodes=(3, 5))
    assert judge([named('bar', **more), foo], 'foo, bar')[1] == answered


def test_conflicts_count_among_accepted_ones_only() -> None:
    declining = named('foo', rsv1=True, negotiate=lambda self, _: None)
    bar = named('bar', rsv1=True)
    assert judge([declining, bar], 'foo, bar')[1] == 'bar'


def test_conflicts_that_come_of_parameters() -> None:
    class Choosing(Extension):
        name = 'choosing'

        def negotiate(self, params: dict[str, str | None]) -> Any:
            self.rsv1 = 'first' in params
            return params

    offers = 'foo, choosing; first, choosing; second'
    _, answered = judge([named('foo', rsv1=True), Choosing], offers)
    assert answered == 'foo, choosing; second'


def test_messages_come_before_frames() -> None:
    agreed, answered = judge(
        [Shift, Plain, Mirror], 'x-shift; by=3, x-mirror, x-plain'
    )
    assert answered == 'x-mirror, x-shift; by=3, x-plain'
    assert [one.name for one in agreed] == ['x-mirror', 'x-shift', 'x-plain']


def test_what_negotiate_raises_comes_out() -> None:
    def fail(self: Extension, params: dict[str, str | None]) -> None:
        raise LookupError('no luck')

    with pytest.raises(LookupError, match='no luck'):
        judge([named('foo', negotiate=fail)], 'foo')


# --- a client judges the answer ---


def answer(templates: list[Any], value: str) -> tuple[Extension, ...]:
    read = _negotiation.read_templates(templates, None)
    _, instances = _negotiation.make_offer(read)
    return _negotiation.judge_answer(
        instances, _twspy._parse_extensions(value), RESPONSE
    )


@pytest.mark.parametrize(
    ('value', 'names'),
    [
        ('x-plain', ['x-plain']),
        ('x-shift; by=2', ['x-shift']),
        ('x-shift; by="2", x-plain', ['x-shift', 'x-plain']),
        ('x-mirror, x-plain', ['x-mirror', 'x-plain']),
        ('x-mirror, x-shift; by=2', ['x-mirror', 'x-shift']),
    ],
)
def test_answers_taken(value: str, names: list[str]) -> None:
    agreed = answer([Plain, Shift(2), Mirror], value)
    assert [one.name for one in agreed] == names


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ('foo', "'foo', which was not offered"),
        ('x-plain; a', "'x-plain; a': it has the parameter 'a'"),
        ('x-shift; by=2; by=2', "'x-shift; by=2; by=2', which has a par"),
        ('x-shift; by=3', "'x-shift; by=3': by is 3, expected 2"),
        ('x-shift', "'x-shift': by is None, expected 2"),
        ('x-plain, x-plain', "'x-plain': x-plain is there twice"),
        ('x-plain, x-mirror', "can't come behind x-plain"),
        ('x-shift; by=2, x-other', 'reserved bits or opcodes that x-shift'),
        ('x-signals, x-talks', 'bits or opcodes that x-signals uses'),
        ('X-plain', 'which was not offered'),
    ],
)
def test_answers_refused(value: str, text: str) -> None:
    templates = [Plain, Shift(2), Mirror, named('x-other', rsv1=True), Signals]
    templates.append(named('x-talks', opcodes=(12,)))
    with pytest.raises(HandshakeError) as caught:
        answer(templates, value)
    assert text in str(caught.value)
    assert caught.value.status == 101
    assert caught.value.headers['X-Server'] == 'yes'


def test_long_names_of_a_peer_are_cut() -> None:
    with pytest.raises(HandshakeError) as caught:
        answer([Plain], 'x' * 10000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('template', [Plain, Shift])
def test_long_parameters_of_a_peer_are_cut(template: Any) -> None:
    value = f'{template.name}; {"x" * 5000}; by={"y" * 5000}'
    with pytest.raises(HandshakeError) as caught:
        answer([template], value)
    assert len(str(caught.value)) < 400
    if template is Plain:
        assert len(str(caught.value.__cause__)) < 200


def test_the_offer_that_was_meant() -> None:
    """Two templates of one name: the one that accepts is the one."""
    agreed = answer([Shift(2), Shift(3)], 'x-shift; by=3')
    assert [one.by for one in agreed] == [3]  # type: ignore[attr-defined]
    with pytest.raises(HandshakeError, match='is there twice'):
        answer([Shift(2), Shift(3)], 'x-shift; by=3, x-shift; by=2')


def test_only_value_errors_of_accept_are_refusals() -> None:
    def fail(self: Extension, params: dict[str, str | None]) -> None:
        raise LookupError('no luck')

    with pytest.raises(LookupError, match='no luck'):
        answer([named('foo', accept=fail)], 'foo')


def test_the_cause_of_a_refusal() -> None:
    with pytest.raises(HandshakeError) as caught:
        answer([Shift(2)], 'x-shift; by=3')
    assert isinstance(caught.value.__cause__, ValueError)


# --- the base ---


def test_defaults() -> None:
    one = Plain()
    assert one.offer() == {}
    assert one.negotiate({}) == {}
    assert one.negotiate({'a': None}) is None
    one.accept({})
    with pytest.raises(ValueError, match="the parameter 'a', expected none"):
        one.accept({'a': None})
    frame = twspy.Frame(1, 'x')
    assert one.onsend(frame) is frame
    assert one.onrecv(frame) is frame
    assert repr(one) == '<Plain x-plain>'
    assert not Numbered.before_fragmentation
