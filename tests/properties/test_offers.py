"""Sec-WebSocket-Extensions: what is written is read again, and what a peer
writes is read or left alone (RFC 6455 section 9.1)."""

from __future__ import annotations

import socket
import string

from drawing import payloads
from hypothesis import given
from hypothesis import strategies as st
from rawends import in_thread

import twspy
from twspy import _negotiation
from twspy._twspy import _parse_extensions

TOKEN = set("!#$%&'*+.^_`|~-" + string.ascii_letters + string.digits)

token = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,6}", fullmatch=True)
params = st.dictionaries(token, st.one_of(st.none(), token), max_size=3)
evil = st.text(alphabet='a;=,"\\ \t\x7fé', max_size=16)
windows = st.one_of(st.none(), st.integers(8, 15))


class Extension(twspy.Extension):
    name = 'x'

    def __init__(self, name: str, offered: dict[str, str | None]) -> None:
        self.name = name
        self.offered = offered

    def offer(self) -> dict[str, str | None]:
        return self.offered


@given(st.lists(st.tuples(token, params), max_size=4))
def test_what_is_offered_is_read(
    offers: list[tuple[str, dict[str, str | None]]],
) -> None:
    text, offered = _negotiation.make_offer(
        [Extension(name, offer) for name, offer in offers]
    )
    assert len(offered) == len(offers)
    if text:
        assert _parse_extensions(text) == [
            (name, list(offer.items())) for name, offer in offers
        ]


@given(st.one_of(evil, evil.map(lambda text: f'a; b="{text}"')))
def test_any_value_of_the_field(text: str) -> None:
    """Elements made of tokens, or an error that says so."""
    try:
        elements = _parse_extensions(text)
    except twspy.HandshakeError as error:
        assert str(error).isprintable()
        return
    for name, pairs in elements:
        for word in (name, *(word for pair in pairs for word in pair)):
            assert word is None or set(word) <= TOKEN
    # Written in the plainest form, it is the same again.
    plain = ', '.join(
        '; '.join((name, *(k if v is None else f'{k}={v}' for k, v in pairs)))
        for name, pairs in elements
    )
    assert _parse_extensions(plain) == elements


deflate = st.builds(
    twspy.DeflateMessage,
    server_max_window_bits=windows,
    client_max_window_bits=windows,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    level=st.integers(-1, 9),
    mem_level=st.integers(1, 9),
    threshold=st.integers(0, 100),
)


@given(
    deflate,
    deflate,
    st.lists(
        st.tuples(
            st.booleans(),
            payloads(),
            st.one_of(st.none(), st.integers(1, 5000)),
            st.sampled_from([None, True, False]),
        ),
        max_size=6,
    ),
)
def test_compressed_messages(
    ours: twspy.DeflateMessage,
    theirs: twspy.DeflateMessage,
    messages: list[tuple[bool, bytes, int | None, bool | None]],
) -> None:
    """Whatever two ends agree on, in either direction."""
    client, server = make_pair(ours, theirs)
    with client.sock, server.sock:
        for from_client, payload, size, compress in messages:
            size = size and max(size, len(payload) // 50)
            one, other = (client, server)[:: 1 if from_client else -1]
            one.send(payload, size, compress=compress)
            assert other.recv(timeout=10).payload == payload


def make_pair(
    ours: twspy.DeflateMessage, theirs: twspy.DeflateMessage
) -> tuple[twspy.Connection, twspy.Connection]:
    one, two = socket.socketpair()
    client = twspy.websocket(one, extensions=[ours])
    server = twspy.websocket(two, extensions=[theirs])
    done = in_thread(lambda: server.handshake(server=True))
    client.handshake(host='localhost')
    assert done() is None
    # Without agreement they talk all the same.
    assert len(client.extensions) == len(server.extensions) <= 1
    return twspy.Connection(client), twspy.Connection(server)
