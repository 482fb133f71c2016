"""What becomes of a request for a WebSocket that `onhandshake` is asked about:
called by the C code, which then does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import HandshakeError
from .http import Request, Response

if TYPE_CHECKING:
    from ._twspy import Connection

# The status; of a 101 its further fields, and the subprotocol where it names
# one; of a refusal a word for the log, and the whole answer.
Decision = tuple[
    int, tuple[tuple[bytes, bytes], ...], str | None, bytes, bytes
]

# Fields of a 101 that are the handshake's own (RFC 6455 section 4.2.2), or
# that belong to the one connection as such (RFC 9110 section 7.6.1).
_OWN = frozenset(
    (
        'connection',
        'content-length',
        'keep-alive',
        'proxy-connection',
        'sec-websocket-accept',
        'sec-websocket-extensions',
        'sec-websocket-key',
        'sec-websocket-version',
        'te',
        'trailer',
        'transfer-encoding',
        'upgrade',
    )
)
_PROTOCOL = 'Sec-WebSocket-Protocol'


def call_onhandshake(
    server: Any, client: Connection, request: Request
) -> Decision:
    """Ask the program."""
    try:
        response = server.onhandshake(client, request)
    except HandshakeError as error:
        return _refuse(_response_of(error), _words_of(error))
    if response is None:
        return 101, (), None, b'', b''
    if not isinstance(response, Response):
        raise TypeError(
            f'onhandshake() returned {type(response).__name__}, expected '
            'None to accept, or a Response'
        )
    if response.status == 101:
        return _accept(response, request)
    return _refuse(response, 'refused by onhandshake()')


def _accept(response: Response, request: Request) -> Decision:
    if response.body:
        raise ValueError(
            'onhandshake() returned a Response(101) with a body: a 101 has '
            'none (RFC 9110 section 15.2), send a message in onopen()'
        )
    fields = []
    for name, value in response.headers.items():
        if name.lower() in _OWN:
            raise ValueError(
                f'onhandshake() returned a Response(101) with {name}, a '
                'field that the handshake itself writes: leave it out'
            )
        if name.lower() != _PROTOCOL.lower():
            fields.append((name.encode('ascii'), value.encode('latin-1')))
    protocol = _chosen_protocol(response, request)
    return 101, tuple(fields), protocol, b'', b''


def _chosen_protocol(response: Response, request: Request) -> str | None:
    """The subprotocol of a 101, one of those that the client offered
    (RFC 6455 section 4.2.2)."""
    chosen = response.headers.get_all(_PROTOCOL)
    if not chosen:
        return None
    offered = [
        name.strip(' \t')
        for value in request.headers.get_all(_PROTOCOL)
        for name in value.split(',')
    ]
    if len(chosen) > 1 or not chosen[0] or chosen[0] not in offered:
        raise ValueError(
            f'onhandshake() returned a Response(101) with {_PROTOCOL} '
            f'{", ".join(chosen)!r}, expected one of what the client offered: '
            f'{[name for name in offered if name]!r}'
        )
    return chosen[0]


def _words_of(error: HandshakeError) -> str:
    """What it was raised with, without what its text says of the rest."""
    return str(error.args[0]) if error.args else ''


def _response_of(error: HandshakeError) -> Response:
    """The answer that an exception stands for."""
    status = 403 if error.status is None else error.status
    body = error.body or f'{_words_of(error)}\n'
    return Response(status, error.headers, body)


def _refuse(response: Response, why: str) -> Decision:
    if response.status < 300:
        raise ValueError(
            f'onhandshake() refused with status {response.status}, expected '
            '300 or more (or 101, to accept)'
        )
    answer = response.pack()
    if not isinstance(answer, bytes):
        raise TypeError(
            f'pack() returned {type(answer).__name__}, expected bytes'
        )
    return response.status, (), None, why.encode('ascii', 'replace'), answer
