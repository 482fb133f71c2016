"""The exceptions of twspy: one tree under WebSocketError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

__all__ = [
    'ConcurrencyError',
    'HandshakeError',
    'PingError',
    'ProtocolError',
    'SSLError',
    'SocketClosed',
    'WebSocketError',
]

# What a code says where its sender gave no words of its own
# (RFC 6455 section 7.4.1 and the registry of section 11.7).
_MEANINGS = {
    1000: 'normal closure',
    1001: 'going away',
    1002: 'protocol error',
    1003: 'unsupported data',
    1005: 'no code received',
    1006: 'no close frame received',
    1007: 'invalid data',
    1008: 'policy violation',
    1009: 'message too big',
    1010: 'missing extension',
    1011: 'internal error',
    1012: 'service restart',
    1013: 'try again later',
    1014: 'bad gateway',
    1015: 'TLS failure',
}
# What a SocketClosed may know beside code, reason and detail, and what stands
# there where it does not.
_UNKNOWN = {
    'ended_by': None,
    'sent': None,
    'received': None,
    'errno': None,
    'unsent': 0,
    'ping_age': None,
}
# How much of a peer's words stands in the text of an error.
_LINE_MAX = 120
_NAMES_MAX = 12
_EndedBy = Literal['peer', 'us', 'network', 'limit', 'keepalive']


class WebSocketError(Exception):
    """The base of every exception that twspy defines."""

    __module__ = 'twspy'


class HandshakeError(WebSocketError, ConnectionError):
    """The opening handshake failed (RFC 6455 section 4).

    Its text is for a log: it tells what went wrong, how the answer's body
    begins where that is text, and which header fields came, in one printable
    line. Values of fields may be secret (Set-Cookie) and stay in `headers`.

    status    HTTP status code: on a client the one that the server answered,
              on a server the one to answer; None where it did not come to it
    headers   header fields of that answer, a mapping; a twspy.Headers, which
              does not care about case, where a server answered
    body      beginning of that answer's body, as bytes; a str that is given
              is taken in UTF-8
    by_proxy  True where a proxy has refused: the server was not asked, and
              status, headers and body are the proxy's
    """

    __module__ = 'twspy'

    status: int | None
    headers: Mapping[str, str]
    body: bytes
    by_proxy: bool

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str = b'',
    ) -> None:
        # Only the message goes to OSError, which would take a second
        # argument for an errno's text.
        super().__init__(message)
        self.status = status
        self.headers = (
            headers if isinstance(headers, Mapping) else dict(headers)
        )
        self.body = body.encode() if isinstance(body, str) else body
        self.by_proxy = False

    def __str__(self) -> str:
        text = _printable(super().__str__())
        body = _excerpt(self.headers, self.body)
        if body:
            text += f'; body: {body}'
        if self.headers:
            names = ', '.join(list(self.headers)[:_NAMES_MAX])
            text += f'; header fields: {_cut(names, _LINE_MAX)}'
        return text


def _excerpt(headers: Mapping[str, str], body: bytes) -> str:
    """How a body begins, if it is text."""
    kind = headers.get('Content-Type', 'text/plain').lower()
    if 'Content-Encoding' in headers or not (
        kind.startswith('text/') or 'json' in kind or 'xml' in kind
    ):
        return ''
    # More than is shown, as white space shrinks.
    text = body[: 8 * _LINE_MAX].decode('utf-8', 'replace')
    return _printable(_cut(' '.join(text.split()), _LINE_MAX))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + '...'


def _printable(text: str) -> str:
    """What could break a line of a log, or steer a terminal, escaped."""
    if text.isprintable():
        return text
    return ''.join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text
    )


class ProtocolError(WebSocketError, ValueError):
    """The peer sent bytes that break the protocol.

    code  the close code that says so to the peer (RFC 6455 section 7.4.1)
    """

    __module__ = 'twspy'

    code: int

    def __init__(self, message: str, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class SocketClosed(WebSocketError, ConnectionError):
    """The connection is closed.

    code      the close code, 1006 where no Close frame came (RFC 6455
              section 7.1.5)
    reason    the words that came with it, or what is known of the cause
    detail    all of what follows in one line for a person, may be empty
    ended_by  who ended it: 'peer', 'us', 'network', 'limit' (the peer broke
              a rule or a limit) or 'keepalive' (the peer did not answer a
              ping in time); None where that is not known
    sent      (code, reason) of the Close frame that this end sent, None
              where it sent none; code 1005 stands for one without a code
    received  the same of the peer's Close frame
    errno     the system's error that ended it, as in the module errno, or
              None
    unsent    bytes that were to be sent and that the system did not take
    ping_age  seconds that the last ping had not been answered for; None
              where it was, and where there was none
    """

    __module__ = 'twspy'

    code: int
    reason: str
    detail: str
    ended_by: _EndedBy | None
    sent: tuple[int, str] | None
    received: tuple[int, str] | None
    errno: int | None
    unsent: int
    ping_age: float | None

    def __init__(
        self,
        code: int = 1006,
        reason: str = '',
        detail: str = '',
        *,
        ended_by: _EndedBy | None = None,
        sent: tuple[int, str] | None = None,
        received: tuple[int, str] | None = None,
        errno: int | None = None,
        unsent: int = 0,
        ping_age: float | None = None,
    ) -> None:
        super().__init__()
        self.code = code
        self.reason = reason
        self.detail = detail
        self.ended_by = ended_by
        self.sent = sent
        self.received = received
        self.errno = errno
        self.unsent = unsent
        self.ping_age = ping_age

    def __reduce__(self) -> tuple[type[Self], tuple[()], dict[str, Any]]:
        # OSError keeps its errno outside of the attributes.
        return type(self), (), {**vars(self), 'errno': self.errno}

    def __str__(self) -> str:
        meaning = _MEANINGS.get(self.code)
        if self.ended_by is not None and self.detail:
            # It begins with who, the code and the reason.
            what = f' ({meaning})' if meaning else ''
            return f'connection closed{what}: {_printable(self.detail)}'
        text = f'connection closed: {self.code}'
        if meaning:
            text += f' ({meaning})'
        if self.reason:
            text += f': {_printable(self.reason)}'
        if self.detail:
            text += f'; {_printable(self.detail)}'
        return text

    def __repr__(self) -> str:
        values = [repr(self.code)]
        if self.reason or self.detail:
            values.append(repr(self.reason))
        if self.detail:
            values.append(repr(self.detail))
        for name, unknown in _UNKNOWN.items():
            value = getattr(self, name)
            if value != unknown:
                values.append(f'{name}={value!r}')
        return f'{type(self).__name__}({", ".join(values)})'


class PingError(WebSocketError, ValueError):
    """The payload of a ping can't be sent."""

    __module__ = 'twspy'


class ConcurrencyError(WebSocketError, RuntimeError):
    """Two threads used at once what only one may use at a time."""

    __module__ = 'twspy'


class SSLError(WebSocketError, OSError):
    """TLS failed: the handshake, a certificate, or the encrypted stream."""

    __module__ = 'twspy'
