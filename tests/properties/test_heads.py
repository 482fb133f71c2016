"""What a program puts into a head arrives as one field of it, or is refused:
no line ends where the program did not end it (RFC 9112 section 2.2)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawpeer import RawPeer, request

import twspy

# What would end a field, or a head.
evil = st.text(alphabet='\r\n\0\x0b\x0c\x85\u2028 :;,"aé\ud800', max_size=10)
value = st.one_of(evil, st.text(max_size=10), st.just('fine'))

FIELDS = {
    'host',
    'upgrade',
    'connection',
    'sec-websocket-key',
    'sec-websocket-version',
    'user-agent',
}


def head_of_client(**options: Any) -> list[bytes] | None:
    """The lines of the request, or None where there was none."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        received = bytearray()

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    while b'\r\n\r\n' not in received:
                        data = sock.recv(65536)
                        if not data:
                            return
                        received.extend(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            path = options.pop('path', '/')
            with pytest.raises((ValueError, TypeError, twspy.HandshakeError)):
                twspy.connect(f'ws://127.0.0.1:{port}{path}', **options)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    if not received:
        return None
    assert received.endswith(b'\r\n\r\n')
    assert received.count(b'\r\n\r\n') == 1
    return bytes(received[:-4]).split(b'\r\n')


def check_lines(lines: list[bytes], more: set[str]) -> None:
    names = set()
    assert lines[0].startswith(b'GET /') and lines[0].endswith(b' HTTP/1.1')
    assert lines[0].count(b' ') == 2
    for line in lines[1:]:
        name, colon, rest = line.partition(b': ')
        assert colon
        assert not set(rest) & set(b'\r\n\0')
        names.add(name.decode().lower())
    assert names <= FIELDS | more, names


@pytest.mark.parametrize(
    ('field', 'options'),
    [
        ('x-test', lambda text: {'headers': [('X-Test', text)]}),
        ('x-test', lambda text: {'headers': {'X-Test': text}}),
        ('origin', lambda text: {'origin': text}),
        ('user-agent', lambda text: {'user_agent': text}),
        ('sec-websocket-protocol', lambda text: {'protocols': [text]}),
        ('', lambda text: {'path': '/' + text}),
        ('', lambda text: {'path': '/?' + text}),
    ],
)
@given(text=value)
def test_requests(
    field: str, options: Callable[[str], dict[str, Any]], text: str
) -> None:
    lines = head_of_client(**options(text))
    if lines is not None:
        check_lines(lines, {field})


@given(name=evil.filter(lambda name: ':' not in name))
def test_names_of_fields(name: str) -> None:
    lines = head_of_client(headers=[(name, 'fine')])
    if lines is not None:
        check_lines(lines, {name.lower()})
        assert name.isascii() and name


class Answering(twspy.Server):
    """Refuses, or lets in, with what the test has put there."""

    answer: twspy.Response

    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> twspy.Response:
        return self.answer


@given(st.data())
def test_answers(data: st.DataObject) -> None:
    with Answering(('127.0.0.1', 0), loglevel='CRITICAL') as server:
        for _ in range(8):
            name, text = data.draw(st.tuples(evil, value))
            status = data.draw(st.sampled_from([101, 403]))
            try:
                server.answer = twspy.Response(status, [(name, text)])
            except (TypeError, ValueError):
                continue
            with RawPeer.open(server.address) as peer:
                peer.send(request())
                got, fields = peer.read_head()
            if got == status:
                assert fields.get(name.lower()) == text.strip(' \t')
            else:
                assert got == 500
