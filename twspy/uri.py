"""WebSocket URLs (RFC 6455 section 3)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit


class URI(NamedTuple):
    """The parts of a WebSocket URL that a client needs."""

    host: str  # a name in ASCII, or an address without brackets
    port: int
    resource: str  # path and query, as they go into the request

    @property
    def netloc(self) -> str:
        """Host and port as in the Host field; the default port left out."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return host if self.port == 80 else f'{host}:{self.port}'


def parse_uri(url: str) -> URI:
    """Split `ws://host[:port][/path][?query]`; ValueError where it is none.

    Characters of path and query that a request can't carry are
    percent-encoded, names with other than ASCII letters become IDNA.
    """
    if not isinstance(url, str):
        raise TypeError(
            f'url is {type(url).__name__}, expected a str such as '
            "'ws://localhost:8000/'"
        )
    parts = urlsplit(url)
    if parts.scheme == 'wss':
        raise ValueError(
            f'url is {url!r}: wss is not supported by this version of twspy'
        )
    if parts.scheme != 'ws':
        raise ValueError(
            f'url is {url!r}, expected ws://host[:port]/path?query'
        )
    if '#' in url:
        raise ValueError(
            f'url is {url!r}: a WebSocket URL has no fragment (RFC 6455 3); '
            "write '#' as %23"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            'url has a user name or password, which this version of twspy '
            'does not support'
        )
    if not parts.hostname:
        raise ValueError(f'url is {url!r}, which names no host')
    try:
        port = parts.port
        host = parts.hostname
        if not host.isascii():
            host = host.encode('idna').decode('ascii')
    except ValueError as error:
        raise ValueError(f'url is {url!r}: {error}') from error
    resource = quote(parts.path, safe="/%:@!$&'()*+,;=-._~") or '/'
    if parts.query:
        resource += '?' + quote(parts.query, safe="/%:@!$&'()*+,;=-._~?")
    return URI(host, 80 if port is None else port, resource)
