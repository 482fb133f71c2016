"""The HTTP side of the opening handshake: header fields, the request that a
client sent, and the response that a server gives."""

from __future__ import annotations

import contextlib
import re
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    ValuesView,
)
from http import HTTPStatus
from typing import Any

__all__ = ['Headers', 'Request', 'Response']

# RFC 9110 section 5.6.2 and 5.5: no control character but the tab, and
# nothing that latin-1 can't carry.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNFIT = re.compile(r'[^\t\x20-\x7e\x80-\xff]')

# What is shown of a peer's fields: characters, and how many.
_SHOWN = 100
_SHOWN_FIELDS = 24

# Fields whose values are no business of a log.
_SECRET = frozenset(
    ('authorization', 'cookie', 'proxy-authorization', 'set-cookie')
)

# Fields that frame the answer, which pack() writes itself.
_FRAMING = frozenset(('connection', 'content-length', 'transfer-encoding'))


class _Items(ItemsView[str, str]):
    """All (name, value) pairs, in order."""

    __slots__ = ()
    _mapping: Headers

    def __len__(self) -> int:
        return len(self._mapping._pairs)

    def __contains__(self, item: object) -> bool:
        return item in self._mapping._pairs

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._mapping._pairs)


class _Values(ValuesView[str]):
    """All values, in order."""

    __slots__ = ()
    _mapping: Headers

    def __len__(self) -> int:
        return len(self._mapping._pairs)

    def __contains__(self, value: object) -> bool:
        return any(value == own for _, own in self._mapping._pairs)

    def __iter__(self) -> Iterator[str]:
        return (value for _, value in self._mapping._pairs)


class Headers(Mapping[str, str]):
    """HTTP header fields: a mapping that never changes.

    fields  (name, value) pairs of str, or a mapping

    Names compare without case. A name may come more than once: headers[name]
    and get() give its first value, get_all() every one. Iteration and len()
    see each name once, as it was first spelt; items() and values() see every
    field, in order. Two Headers are equal when each name has the same values
    in the same order.

    Raises ValueError for a name that is not a token and for a value with a
    line break, NUL or another control character, or outside of latin-1
    (RFC 9110 section 5). Space around a value is dropped.
    """

    __module__ = 'twspy'
    __slots__ = ('__weakref__', '_index', '_pairs')

    _pairs: tuple[tuple[str, str], ...]
    _index: dict[str, tuple[str, ...]]

    def __init__(
        self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    ) -> None:
        pairs = tuple(_checked(name, value) for name, value in _pairs(fields))
        index: dict[str, tuple[str, ...]] = {}
        for name, value in pairs:
            key = name.lower()
            index[key] = (*index.get(key, ()), value)
        object.__setattr__(self, '_pairs', pairs)
        object.__setattr__(self, '_index', index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Headers never change: can't set {name!r}")

    def __getitem__(self, name: str) -> str:
        try:
            return self._index[name.lower()][0]
        except (KeyError, AttributeError):
            raise KeyError(name) from None

    def get_all(self, name: str) -> list[str]:
        """Every value of the fields called name, in order; [] where there is
        none."""
        return list(self._index.get(name.lower(), ()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self._pairs:
            key = name.lower()
            if key not in seen:
                seen.add(key)
                yield name

    def items(self) -> ItemsView[str, str]:
        """All (name, value) pairs, in order."""
        return _Items(self)

    def values(self) -> ValuesView[str]:
        """All values, in order."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._index == other._index

    def __hash__(self) -> int:
        return hash(frozenset(self._index.items()))

    def __repr__(self) -> str:
        # Ends up in logs, where credentials don't belong.
        shown = [
            (_cut(name), '***' if name.lower() in _SECRET else _cut(value))
            for name, value in self._pairs[:_SHOWN_FIELDS]
        ]
        more = len(self._pairs) - len(shown)
        return f'Headers({shown!r})' + (f' and {more} more' if more else '')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._pairs,)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + '...'


def _pairs(fields: Any) -> Iterable[tuple[Any, Any]]:
    """The fields as pairs; TypeError where they are none."""
    if isinstance(fields, Mapping):
        return fields.items()
    with contextlib.suppress(TypeError, ValueError):
        return [(name, value) for name, value in fields]
    raise TypeError(
        f'headers is {type(fields).__name__}, expected a mapping or pairs '
        '(name, value)'
    )


def _checked(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            'a header field is a name and a value of type str, got '
            f'{type(name).__name__} and {type(value).__name__}'
        )
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f'not the name of a header field: {name!r}')
    value = value.strip(' \t')
    unfit = _UNFIT.search(value)
    if unfit is not None:
        # The value itself may be a password.
        raise ValueError(
            f"the value of {name} has a character that a header field can't "
            f'carry: {unfit[0]!r} at index {unfit.start()}'
        )
    return name, value


class Request:
    """The request of an opening handshake (RFC 6455 section 4.1).

    method          "GET", as it was sent
    target          what follows the method, as it was sent
    headers         the header fields, a Headers
    remote_address  the client's address as sockets give it, or None
    version         "HTTP/1.1"
    """

    __module__ = 'twspy'
    __slots__ = (
        '__weakref__',
        '_fields',
        '_headers',
        '_method',
        '_remote_address',
        '_target',
        '_version',
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        remote_address: Any = None,
        version: str = 'HTTP/1.1',
    ) -> None:
        self._method = method
        self._target = target
        self._fields = headers
        self._headers: Headers | None = None
        self._remote_address = remote_address
        self._version = version

    @property
    def method(self) -> str:
        """The method, in capitals as it was sent."""
        return self._method

    @property
    def target(self) -> str:
        """Path and query as they were sent."""
        return self._target

    @property
    def headers(self) -> Headers:
        """The header fields."""
        # Made when somebody looks: most handshakes are never looked at.
        if self._headers is None:
            fields = self._fields
            self._headers = (
                fields if isinstance(fields, Headers) else Headers(fields)
            )
        return self._headers

    @property
    def remote_address(self) -> Any:
        """The client's address: (host, port) over IPv4."""
        return self._remote_address

    @property
    def version(self) -> str:
        """The protocol's version, "HTTP/1.1"."""
        return self._version

    @property
    def path(self) -> str:
        """The target up to the question mark, percent-encoded as sent.

        Scheme and host of a target in absolute form are left out.
        """
        return _split(self._target)[0]

    @property
    def query(self) -> str:
        """The target behind the question mark, as sent; may be empty.

        urllib.parse.parse_qs() reads it.
        """
        return _split(self._target)[1]

    def __repr__(self) -> str:
        # Pages put tokens into the query, as they can't send header fields.
        path, question, _ = self._target.partition('?')
        shown = _cut(path) + ('?...' if question else '')
        return f'<Request {_cut(self._method)} {shown!r}>'


def _split(target: str) -> tuple[str, str]:
    """(path, query) of a target (RFC 9112 section 3.2)."""
    path, _, query = target.partition('?')
    if not path.startswith('/') and '://' in path:
        _, _, path = path.partition('://')[2].partition('/')
        path = '/' + path
    return path, query


class Response:
    """An answer to a request over HTTP.

    status   HTTP status code, 100 to 999
    headers  header fields: pairs of str, a mapping, or Headers
    body     bytes, or str, which is taken in UTF-8 and gets a Content-Type
             of text/plain unless headers has one
    """

    __module__ = 'twspy'
    __slots__ = ('__weakref__', '_body', '_headers', '_status')

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | bytearray | memoryview | str = b'',
    ) -> None:
        if not isinstance(status, int):
            raise TypeError(
                f'status must be an int, got {type(status).__name__}'
            )
        if not 100 <= status <= 999:
            raise ValueError(f'status must be 100 to 999, got {status}')
        given: Any = headers
        if isinstance(given, (str, bytes)):
            raise TypeError(
                f'headers is {type(given).__name__}, expected a mapping or '
                'pairs (name, value): what to say is body=...'
            )
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        if isinstance(body, str):
            body = body.encode()
            if 'Content-Type' not in fields:
                fields = Headers(
                    [
                        *fields.items(),
                        ('Content-Type', 'text/plain; charset=utf-8'),
                    ]
                )
        elif not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(
                'body must be str or a bytes-like object, got '
                f'{type(body).__name__}'
            )
        self._status = int(status)
        self._headers = fields
        self._body = bytes(body)

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self._status

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self._headers

    @property
    def body(self) -> bytes:
        """The content."""
        return self._body

    @property
    def phrase(self) -> str:
        """What the status means, in words: "Not Found"."""
        try:
            return HTTPStatus(self._status).phrase
        except ValueError:
            return 'Unknown'

    def pack(self, head_only: bool = False) -> bytes:
        """The response as bytes for the wire.

        head_only  True leaves the body out but counts it, as the answer to
                   HEAD wants

        Content-Length and Connection: close are written here, and any field
        of headers that would say otherwise is left out. Raises ValueError
        for a status below 200, which is no whole answer.
        """
        if self._status < 200:
            raise ValueError(
                f'status {self._status} does not end a request: an answer '
                'has 200 or more'
            )
        lines = [f'HTTP/1.1 {self._status} {self.phrase}']
        lines += [
            f'{name}: {value}'
            for name, value in self._headers.items()
            if name.lower() not in _FRAMING
        ]
        # RFC 9110 section 6.4.1: these two never have content.
        bodiless = self._status in (204, 304)
        if not bodiless:
            lines.append(f'Content-Length: {len(self._body)}')
        lines.append('Connection: close')
        head = '\r\n'.join(lines) + '\r\n\r\n'
        body = b'' if head_only or bodiless else self._body
        return head.encode('latin-1') + body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Response):
            return NotImplemented
        return (
            self._status == other._status
            and self._headers == other._headers
            and self._body == other._body
        )

    def __hash__(self) -> int:
        return hash((self._status, self._headers, self._body))

    def __repr__(self) -> str:
        return (
            f'<Response {self._status} {self.phrase}, {len(self._body)} bytes>'
        )
