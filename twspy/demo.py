"""A chat: its page and its WebSocket on one port.

    python -m twspy.demo [--host 127.0.0.1] [--port 8000]

Everybody sends `{"name": ..., "text": ...}`; the first message, and any with
an empty text, only tells the name. Everybody gets `{"kind": ..., "name": ...,
"text": ..., "id": ..., "members": ...}`, where kind is `welcome` (to the
newcomer alone), `joined`, `said`, `renamed` (text is the old name) or `left`,
id tells members apart, and members is how many there are.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import logging
import re
import signal
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Self

from . import (
    CLOSE_POLICY,
    CloseMessage,
    Connection,
    Message,
    Request,
    Response,
    Server,
    TextMessage,
)

_PAGE = resources.files(__package__).joinpath('demo.html').read_bytes()

# What the page's own fields let through, in characters and in bytes.
_MAX_NAME = 40
_MAX_TEXT = 2000
_MAX_SIZE = 16 * 1024
_EXPECTED = (
    f'expected {{"name": ..., "text": ...}} of at most {_MAX_NAME} and '
    f'{_MAX_TEXT} characters'
)


def _source_of(tag: str) -> str:
    """The source expression that allows the page's one element of a kind."""
    found = re.search(rb'<%b>(.*?)</%b>' % ((tag.encode(),) * 2), _PAGE, re.S)
    assert found is not None
    digest = hashlib.sha256(found[1]).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_PAGE_HEADERS = {
    'Content-Type': 'text/html; charset=utf-8',
    # Even if markup of a peer got into the page, it could not run, load or
    # send anything.
    'Content-Security-Policy': '; '.join(
        (
            "default-src 'none'",
            f'script-src {_source_of("script")}',
            f'style-src {_source_of("style")}',
            "connect-src 'self'",
            'img-src data:',
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
}


@dataclass
class _Member:
    id: int
    name: str


class ChatServer(Server):
    """Hands what one member says to all of them."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(
            address,
            loglevel=logging.WARNING,
            trusted_origins='same-origin',
            locations=['/'],
            max_size=_MAX_SIZE,
        )
        self._ids = itertools.count(1)
        self._members: dict[Connection, _Member] = {}

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host, port = self.address[:2]
        host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host)
        return f'http://{f"[{host}]" if ":" in host else host}:{port}/'

    def start(self, loops: int = 1) -> Self:
        super().start(loops)
        # Not earlier: who reads this line may connect at once.
        print(self.url, flush=True)
        return self

    def onrequest(self, request: Request) -> Response:
        if request.path != '/':
            return Response(404, body='there is nothing here but /\n')
        return Response(200, _PAGE_HEADERS, _PAGE)

    def onmessage(self, client: Connection, message: Message) -> None:
        said = _parse(message)
        if said is None:
            client.close(CLOSE_POLICY, _EXPECTED)
            return
        name, text = said
        member = self._members.get(client)
        if member is None:
            member = self._admit(client, name)
        elif name and name != member.name:
            old, member.name = member.name, name
            self._announce('renamed', member, old)
        if text:
            self._announce('said', member, text)

    def onclose(self, client: Connection, message: CloseMessage) -> None:
        member = self._members.pop(client, None)
        if member is not None:
            self._announce('left', member)

    def _admit(self, client: Connection, name: str) -> _Member:
        number = next(self._ids)
        member = _Member(number, name or f'Guest {number}')
        others = list(self._members)
        self._members[client] = member
        client.send(self._pack('welcome', member))
        self.broadcast(self._pack('joined', member), to=others)
        return member

    def _announce(self, kind: str, member: _Member, text: str = '') -> None:
        packed = self._pack(kind, member, text)
        self.broadcast(packed, to=list(self._members))

    def _pack(self, kind: str, member: _Member, text: str = '') -> TextMessage:
        data = {
            'kind': kind,
            'id': member.id,
            'name': member.name,
            'text': text,
            'members': len(self._members),
        }
        return TextMessage(json.dumps(data))


def _parse(message: Message) -> tuple[str, str] | None:
    """Name and text of a message; None where it has another form."""
    if not isinstance(message, TextMessage):
        return None
    try:
        data = message.json()
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    name = data.get('name')
    text = data.get('text')
    if not isinstance(name, str) or not isinstance(text, str):
        return None
    if len(name) > _MAX_NAME or len(text) > _MAX_TEXT:
        return None
    return ' '.join(name.split()), text.strip()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not from 0 to 65535')
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m twspy.demo',
        description='Serve a chat: its page and its WebSocket on one port.',
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on (%(default)s)',
    )
    parser.add_argument(
        '--port',
        type=_port,
        default=8000,
        help='port to listen on, 0 for any free one (%(default)s)',
    )
    given = parser.parse_args(arguments)
    # One way to end for both signals, whenever they come.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ChatServer((given.host, given.port)).run()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(
            f"can't listen on {given.host} port {given.port}: "
            f'{error.strerror} (see --host and --port)',
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
