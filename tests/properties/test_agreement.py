"""Agreeing on extensions: whatever a client offers, what a server of ours
answers is allowed, and a client of ours takes it (RFC 6455 section 9.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import twspy
from twspy import _negotiation
from twspy._twspy import _parse_extensions

NAMES = ['x-a', 'x-b', 'x-c', 'permessage-deflate', 'deflate-frame']
KEYS = ['a', 'b', 'server_max_window_bits', 'client_max_window_bits']
Params = dict[str, str | None]


class Made(twspy.Extension):
    """Takes any offer, or only some, and answers with what it was given."""

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    offered: Params
    declines: str | None

    def offer(self) -> Params:
        return self.offered

    def negotiate(self, params: Params) -> Params | None:
        return None if self.declines in params else params

    def accept(self, params: Params) -> None:
        if params != self.offered:
            raise ValueError('that is not what was offered')


values = st.one_of(st.none(), st.sampled_from(['8', '15', 'x', '0']))
params = st.dictionaries(st.sampled_from(KEYS), values, max_size=2)
made = st.builds(
    Made,
    name=st.sampled_from(NAMES),
    rsv1=st.booleans(),
    rsv2=st.booleans(),
    opcodes=st.sets(st.sampled_from([3, 4, 12]), max_size=1).map(tuple),
    before_fragmentation=st.booleans(),
    offered=params,
    declines=st.sampled_from([None, *KEYS]),
)
bits = st.one_of(st.none(), st.integers(8, 15))
ours = st.one_of(
    st.builds(
        twspy.DeflateMessage,
        server_no_context_takeover=st.booleans(),
        client_no_context_takeover=st.booleans(),
        server_max_window_bits=bits,
        client_max_window_bits=st.one_of(bits, st.just(True)),
    ),
    st.builds(
        twspy.DeflateFrame,
        max_window_bits=bits,
        no_context_takeover=st.booleans(),
    ),
    st.builds(twspy.WebkitDeflateFrame, max_window_bits=bits),
)
templates = st.lists(st.one_of(made, ours), max_size=5)
elements = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, 'x-webkit-deflate-frame', 'x-unknown']),
        st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=3),
    ),
    max_size=6,
)


def claims(extension: Any) -> tuple[set[str], set[int]]:
    rsv = {bit for bit in ('rsv1', 'rsv2', 'rsv3') if getattr(extension, bit)}
    return rsv, set(extension.opcodes)


def check_agreed(agreed: tuple[Any, ...]) -> None:
    """No name, bit or opcode is claimed twice; a message is whole first."""
    names = [extension.name for extension in agreed]
    assert len(set(names)) == len(names)
    bits: list[str] = []
    opcodes: list[int] = []
    for extension in agreed:
        rsv, more = claims(extension)
        bits += rsv
        opcodes += more
    assert len(set(bits)) == len(bits)
    assert len(set(opcodes)) == len(opcodes)
    whole = [extension.before_fragmentation for extension in agreed]
    assert whole == sorted(whole, reverse=True)


@given(templates, elements)
def test_what_a_server_agrees_on(
    templates: list[Any], offers: list[tuple[str, list[Any]]]
) -> None:
    before = [repr(vars(one)) for one in templates if isinstance(one, Made)]
    agreed, answer = _negotiation.judge_offers(templates, offers)
    check_agreed(agreed)
    answered = _parse_extensions(answer) if answer else []
    assert [name for name, _ in answered] == [one.name for one in agreed]
    for (name, pairs), extension in zip(answered, agreed, strict=True):
        # Each goes back to an offer, and none to a parameter given twice.
        offered = [dict(more) for other, more in offers if other == name]
        assert offered
        if isinstance(extension, Made):
            assert dict(pairs) in offered
            assert extension.declines not in dict(pairs)
    # Templates are not touched, and no instance is one.
    assert all(one is not other for one in agreed for other in templates)
    assert before == [
        repr(vars(one)) for one in templates if isinstance(one, Made)
    ]


def plain(name: str) -> Made:
    return Made(name=name, offered={}, declines=None)


@given(templates, elements)
@example([plain('x-a'), plain('x-b')], [('x-a', []), ('x-b', [])])
def test_nothing_is_left_out_without_a_reason(
    templates: list[Any], offers: list[tuple[str, list[Any]]]
) -> None:
    """An offer that fits beside all that was agreed on is taken."""
    templates = [one for one in templates if isinstance(one, Made)]
    agreed, _ = _negotiation.judge_offers(templates, offers)
    taken = [one.name for one in agreed]
    for name, pairs in offers:
        if name in taken or len(dict(pairs)) < len(pairs):
            continue
        for template in templates:
            fits = template.name == name and template.declines not in dict(
                pairs
            )
            if not fits:
                continue
            rsv, opcodes = claims(template)
            assert any(
                rsv & claims(other)[0] or opcodes & claims(other)[1]
                for other in agreed
            ), (name, pairs)


@given(templates, templates)
def test_a_client_takes_what_a_server_answers(
    clients: list[Any], servers: list[Any]
) -> None:
    text, offered = _negotiation.make_offer(clients)
    offers = _parse_extensions(text) if text else []
    agreed, answer = _negotiation.judge_offers(servers, offers)
    response = twspy.Response(200)
    try:
        taken = _negotiation.judge_answer(
            offered, _parse_extensions(answer) if answer else [], response
        )
    except twspy.HandshakeError as error:
        # One name stands for two things then.
        assert 'Sec-WebSocket-Extensions' in str(error)
        assert not same_claims(clients, servers), error
        return
    assert [one.name for one in taken] == [one.name for one in agreed]
    check_agreed(taken)


def same_claims(clients: list[Any], servers: list[Any]) -> bool:
    """Whether a name means the same on both sides, and what it answers is
    what the client wants."""
    for name in NAMES:
        known = [one for one in (*clients, *servers) if one.name == name]
        kinds = {type(one) for one in known}
        if len(kinds) > 1 or (kinds == {Made} and len(known) > 2):
            return False
        if kinds == {Made} and len(known) == 2:
            one, other = known
            if claims(one) != claims(other):
                return False
            if one.before_fragmentation != other.before_fragmentation:
                return False
        # Its own types may have been offered several times.
        if len([one for one in clients if one.name == name]) > 1:
            return False
    return True


@given(templates, elements)
def test_any_answer(
    clients: list[Any], answer: list[tuple[str, list[Any]]]
) -> None:
    """A client agrees, or says why not in a HandshakeError of a line."""
    _, offered = _negotiation.make_offer(clients)
    try:
        taken = _negotiation.judge_answer(offered, answer, twspy.Response(101))
    except twspy.HandshakeError as error:
        assert str(error).isprintable()
        return
    check_agreed(taken)
    assert [one.name for one in taken] == [name for name, _ in answer]
    assert all(any(one is other for other in offered) for one in taken)


junk: Any = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=4),
        st.binary(max_size=3),
        st.sampled_from([twspy.DeflateMessage, twspy.Extension, object]),
    ),
    lambda more: st.one_of(
        st.lists(more, max_size=3),
        st.dictionaries(st.text(max_size=3), more, max_size=2),
    ),
    max_leaves=5,
)


@given(junk, junk)
def test_any_options(extensions: Any, compression: Any) -> None:
    try:
        taken = _negotiation.read_templates(extensions, compression)
    except (TypeError, ValueError) as error:
        assert str(error).isprintable()
        return
    assert all(_negotiation._is_template(one) for one in taken)


@given(st.data(), st.sampled_from(['offer', 'negotiate']), junk)
def test_any_parameters(data: Any, method: str, returned: Any) -> None:
    """What a program returns is written as tokens, or refused."""

    class Returns(twspy.Extension):
        name = 'x-a'

        def offer(self) -> Any:
            return returned

        def negotiate(self, params: Params) -> Any:
            return returned

    try:
        if method == 'offer':
            text, _ = _negotiation.make_offer([Returns])
        else:
            _, text = _negotiation.judge_offers([Returns], [('x-a', [])])
    except (TypeError, ValueError) as error:
        assert str(error).isprintable()
        return
    if text:
        assert text.isascii() and text.isprintable()
        assert all(name == 'x-a' for name, _ in _parse_extensions(text))


@pytest.mark.parametrize('attribute', ['rsv1', 'names', 'opcodes', 'name'])
@given(value=junk)
def test_any_attribute(attribute: str, value: Any) -> None:
    extension = type(
        'Odd', (twspy.Extension,), {'name': 'x-a', attribute: value}
    )
    try:
        name, rsv, opcodes, whole = _negotiation.claims_of(extension())
    except (TypeError, ValueError) as error:
        assert str(error).isprintable()
        return
    assert name and name.isascii() and ' ' not in name
    assert rsv in (0, 0x40)
    assert opcodes & ~0xF8F8 == 0
    assert whole is False
