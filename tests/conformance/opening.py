"""The words of rows about the opening handshake, and what runs them.

A head is written as what it differs in from one that is good: see edited().
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from conformance.roles import SOON, End, unread
from conformance.script import Variants, check_lives
from conformance.table import BYTES, CLIENT, SERVER, WHOLE, Row
from rawpeer import RawPeer, accept_key, read_request

import twspy

# Of RFC 6455 section 1.3.
KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='

REQUEST = (
    'Host: localhost',
    'Upgrade: websocket',
    'Connection: Upgrade',
    f'Sec-WebSocket-Key: {KEY}',
    'Sec-WebSocket-Version: 13',
)
ANSWER = (
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Accept: {accept}',
)


def edited(lines: Iterable[str], edits: Iterable[str]) -> list[str]:
    """Field lines of a head, after these changes to good ones: '-Host' takes
    a field away, '+Host: a' adds a line as it is, and 'Host: a' stands in
    place of the field with that name."""
    found = list(lines)
    for edit in edits:
        if edit.startswith('+'):
            found.append(edit[1:])
            continue
        name = edit.removeprefix('-').partition(':')[0].strip().lower()
        (index,) = (
            i
            for i, line in enumerate(found)
            if line.partition(':')[0].strip().lower() == name
        )
        found[index : index + 1] = [] if edit.startswith('-') else [edit]
    return found


def written(start: str, lines: Iterable[str], behind: bytes) -> bytes:
    text = '\r\n'.join([start, *lines, '', ''])
    return text.encode('latin-1') + behind


def ask(
    *edits: str, start: str = 'GET / HTTP/1.1', behind: bytes = b''
) -> bytes:
    """A request of a client: a good one but for this."""
    return written(start, edited(REQUEST, edits), behind)


def reply(
    *edits: str,
    start: str = 'HTTP/1.1 101 Switching Protocols',
    behind: bytes = b'',
) -> bytes:
    """An answer of a server: a good one but for this. '{accept}' stands for
    what the request's key asks for."""
    return written(start, edited(ANSWER, edits), behind)


# ------------------------------------------------------------------- sending


def our_fd(peer: RawPeer) -> int | None:
    """The descriptor of our end, which is in this process, too."""
    here, there = peer.sock.getsockname(), peer.sock.getpeername()
    for name in os.listdir('/proc/self/fd'):
        try:
            link = os.readlink(f'/proc/self/fd/{name}')
            if not link.startswith('socket:'):
                continue
            sock = socket.socket(fileno=int(name))
        except OSError:
            continue
        try:
            if (sock.getsockname(), sock.getpeername()) == (there, here):
                return int(name)
        except OSError:
            continue
        finally:
            sock.detach()
    return None


def send_in_pieces(peer: RawPeer, pieces: Iterable[bytes]) -> None:
    """Each once our end has read the one before. Where it has had enough of
    them the rest is lost."""
    fd: int | None = None
    deadline = time.monotonic() + SOON
    with suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            while fd is None:
                assert time.monotonic() < deadline, 'nobody accepts'
                fd = our_fd(peer)
            peer.send(piece)
            with suppress(OSError):
                while unread(fd):
                    assert time.monotonic() < deadline, 'our end reads not'
                    time.sleep(0)


def send_head(end: End, data: bytes) -> None:
    """Send in the way that the row is tried."""
    if end.split == BYTES:
        send_in_pieces(end.peer, (data[i : i + 1] for i in range(len(data))))
    else:
        with suppress(BrokenPipeError, ConnectionResetError):
            end.peer.send(data)


# ------------------------------------------------- what our server does of it


@dataclass(frozen=True)
class Asked:
    """A request for our server, and what must come of it."""

    request: bytes
    check: Callable[[End], None]

    def __call__(self, end: End) -> None:
        end.connect()
        send_head(end, self.request)
        self.check(end)


@dataclass(frozen=True)
class Refused:
    """An answer with a status, in words that can be shown, and the end. The
    program hears nothing."""

    status: int
    body: bool = (
        True  # none is sent in answer to HEAD (RFC 9110 section 9.3.2)
    )

    def __call__(self, end: End) -> None:
        if self.body:
            status, head, body = end.peer.read_answer()
        else:
            (status, head), body = end.peer.read_head(), 'none\n'
            end.peer.expect_end()
        assert status == self.status, (status, body)
        check_refusal(status, head, body)
        assert not end.program.opened.is_set()


def check_refusal(status: int, head: dict[str, str], body: str) -> None:
    options = head['connection'].lower().split(', ')
    assert head['content-type'].startswith('text/plain'), head
    assert 'close' in options, head
    assert body.endswith('\n') and body[:-1].isprintable(), body
    assert 0 < len(body.strip()) <= 300, body
    assert 'sec-websocket-accept' not in head
    # RFC 6455 section 4.4, RFC 9110 sections 7.8 and 15.5.22.
    upgrade = status == 426
    assert head.get('sec-websocket-version') == ('13' if upgrade else None)
    assert head.get('upgrade') == ('websocket' if upgrade else None)
    assert ('upgrade' in options) is upgrade, head
    # RFC 9110 section 10.2.1
    assert ('allow' in head) is (status == 405), head
    assert ('www-authenticate' in head) is (status == 401), head


@dataclass(frozen=True)
class Welcomed:
    """A 101 as RFC 6455 section 4.2.2 has it, and a connection that lives.
    What the answer or the connection has of each name."""

    protocol: str | None = None
    extensions: str | None = None
    seen: dict[str, object] = field(default_factory=dict)

    def __call__(self, end: End) -> None:
        status, head = end.peer.read_head()
        assert status == 101, (status, head, end.peer.buffer)
        assert head['upgrade'].lower() == 'websocket'
        assert head['connection'].lower() == 'upgrade'
        assert head['sec-websocket-accept'] == ACCEPT
        assert head.get('sec-websocket-protocol') == self.protocol
        assert head.get('sec-websocket-extensions') == self.extensions
        assert 'content-length' not in head
        assert 'transfer-encoding' not in head
        sock = end.connection.sock
        assert sock.protocol == self.protocol
        request = sock.request
        assert request is not None
        for name, value in self.seen.items():
            source = sock if hasattr(sock, name) else request
            got = getattr(source, name)
            assert got == value, (name, got)
        check_lives(end)


def each(check: Callable[[End], None], heads: Iterable[bytes]) -> Variants:
    return Variants(tuple(Asked(head, check) for head in heads))


def refused(status: int, *requests: bytes) -> Variants:
    """Each is answered so."""
    return each(Refused(status), requests)


def welcomed(
    *requests: bytes,
    protocol: str | None = None,
    extensions: str | None = None,
    **seen: object,
) -> Variants:
    """Each opens a connection. `seen`: what the program sees of `.sock` or
    its `.request`."""
    return each(Welcomed(protocol, extensions, seen), requests)


# ------------------------------------------------- what our client does of it


@dataclass(frozen=True)
class Replied:
    """What a server answers our client, and what must come of it."""

    answer: bytes
    check: Callable[[End], None]
    ends: bool = True  # the server's end of the stream follows

    def __call__(self, end: End) -> None:
        end.connect()
        _, end.head = read_request(end.peer)
        accept = accept_key(end.head).encode()
        send_head(end, self.answer.replace(b'{accept}', accept))
        if self.ends and not isinstance(self.check, Opened):
            with suppress(OSError):
                end.peer.end()
        self.check(end)


@dataclass(frozen=True)
class Opened:
    """The connection is open, with what was chosen."""

    protocol: str | None = None
    extensions: tuple[str, ...] = ()

    def __call__(self, end: End) -> None:
        sock = end.connection.sock
        assert sock.protocol == self.protocol
        names = tuple(one.name for one in end.connection.extensions)
        assert names == self.extensions
        assert sock.response is not None
        assert sock.response.status == 101
        check_lives(end)


@dataclass(frozen=True)
class Rejected:
    """RFC 6455 section 4.1: the client fails the connection: not one byte
    more is sent, and connect() raises a HandshakeError with the status of the
    answer, in words that can be shown."""

    status: int | None
    words: str
    body: bytes | None = None

    def __call__(self, end: End) -> None:
        expect_end(end.peer)
        end.join()
        error = end.failure
        assert isinstance(error, twspy.HandshakeError), repr(error)
        assert error.status == self.status, repr(error)
        text = str(error)
        assert self.words in text, text
        assert text.isprintable() and text.isascii(), repr(text)
        assert len(text) <= 400, text
        if self.body is not None:
            assert error.body == self.body
        assert not end.program.opened.is_set()


def expect_end(peer: RawPeer) -> None:
    """The stream ends, or it is reset as there was more than was read."""
    with suppress(ConnectionResetError):
        peer.expect_end()


def opened(
    *answers: bytes,
    protocol: str | None = None,
    extensions: tuple[str, ...] = (),
) -> Variants:
    check = Opened(protocol, extensions)
    return Variants(tuple(Replied(answer, check) for answer in answers))


def rejected(
    status: int | None,
    words: str,
    *answers: bytes,
    ends: bool = True,
    body: bytes | None = None,
) -> Variants:
    """Each is so. `words`: of the error; `status`: None where the answer has
    none that could be read."""
    check = Rejected(status, words, body)
    return Variants(tuple(Replied(answer, check, ends) for answer in answers))


# ---------------------------------------------------------------------- rows

SPLITS = (WHOLE, BYTES)


def request_row(
    id: str,
    section: str,
    requirement: str,
    run: Callable[[End], None],
    **more: object,
) -> Row:
    """A row about a request, which is our server's to judge."""
    given: dict[str, object] = {'splits': SPLITS} | more
    why = 'servers judge requests'
    return Row(id, section, requirement, run, (SERVER,), why, **given)  # type: ignore[arg-type]


def answer_row(
    id: str,
    section: str,
    requirement: str,
    run: Callable[[End], None],
    **more: object,
) -> Row:
    """A row about an answer, which is our client's to judge."""
    given: dict[str, object] = {'splits': SPLITS} | more
    why = 'clients judge answers'
    return Row(id, section, requirement, run, (CLIENT,), why, **given)  # type: ignore[arg-type]
