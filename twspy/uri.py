"""WebSocket URLs (RFC 6455 section 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote

# What RFC 3986 lets stand in a path (section 3.3) and a query (3.4) beside
# letters and digits; '%' as escapes stay as they are.
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = _PATH_SAFE + '?'

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*):')
_UNFIT = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff\\s]')
_STRAY_PERCENT = re.compile(r'%(?![0-9A-Fa-f]{2})')
_LABEL = re.compile(r'[A-Za-z0-9_-]{1,63}')
_NUMBER = re.compile(r'[0-9]+|0[xX][0-9A-Fa-f]*')
_ZONE = re.compile(r'[A-Za-z0-9._~-]+')

# Where IDNA2008 and the IDNA2003 of Python's codec name different hosts
# (RFC 5894 section 7.2): sharp s, final sigma, and two joiners.
_DEVIATIONS = re.compile('[\xdf\u03c2\u200c\u200d]')

_HOST_MAX = 253  # RFC 1035 section 2.3.4, without the root's label

# In texts for people: a URL whose '@' can't belong to a password, and what
# stands before a password.
_NO_USERINFO = re.compile(
    r'[a-z][a-z0-9+.-]*://'
    r'(?:\[[^]@/?#\\]*\]|[^][@:/?#\\]+)(?::[0-9]*)?(?:[/?#]|$)',
    re.I,
)
_BEFORE_USERINFO = re.compile(
    r'[a-z][a-z0-9+.-]*://|(?:wss?|https?|socks[45]?[ah]?):/?', re.I
)
_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class URI:
    """The parts of a WebSocket URL that a client needs.

    `str()` is for logs: without user name, password and query, which may
    hold a token.
    """

    secure: bool  # wss:
    host: str  # a name in ASCII, or an address without brackets
    port: int
    resource: str  # path and query, as they go into the request
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        """'ws' or 'wss'."""
        return 'wss' if self.secure else 'ws'

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two URLs of one server share (RFC 6454 section 4)."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """Host and port as in the Host field; the default port left out.

        So is the zone of an IPv6 address, which means something on this
        machine only (RFC 6874 section 4).
        """
        default = 443 if self.secure else 80
        return format_netloc(self.host, self.port, default)

    def __str__(self) -> str:
        return hide_secrets(f'{self.scheme}://{self.netloc}{self.resource}')


def parse_uri(url: str) -> URI:
    """Split `ws[s]://[user:password@]host[:port][/path][?query]`.

    Characters of path and query that a request can't carry are
    percent-encoded, escapes stay as they are. Names with other than ASCII
    letters become IDNA.

    Raises TypeError and ValueError, whose text shows no password.
    """
    if not isinstance(url, str):
        raise TypeError(
            f'url is {type(url).__name__}, expected a str such as '
            "'ws://localhost:8000/'"
        )
    try:
        return split_uri(url)
    except ValueError as error:
        text = f'url is {hide_secrets(url)!r}: {error}'
    raise ValueError(text)


def split_uri(url: str) -> URI:
    """parse_uri() whose ValueErrors leave to the caller what it is about."""
    check_characters(url)
    scheme = _SCHEME.match(url)
    name = scheme[1].lower() if scheme else ''
    if name in ('http', 'https'):
        raise ValueError('expected ws: instead of http:, wss: for https:')
    if name not in ('ws', 'wss') or not url.startswith('//', len(name) + 1):
        raise ValueError('expected ws://host[:port]/path?query, or wss://...')
    if '#' in url:
        raise ValueError(
            'a WebSocket URL has no fragment (RFC 6455 section 3); write '
            "'#' as %23"
        )
    rest, _, query = url[len(name) + 3 :].partition('?')
    authority, slash, path = rest.partition('/')
    if '\\' in path:
        raise ValueError("its path has a '\\'; write '/', or %5C")
    host, port, auth = split_authority(authority)
    secure = name == 'wss'
    if port is None:
        port = 443 if secure else 80
    return URI(secure, host, port, quote_resource(slash + path, query), auth)


def quote_resource(path: str, query: str) -> str:
    """Path and query as a request can carry them."""
    resource = _quote(path, _PATH_SAFE) or '/'
    return resource + '?' + _quote(query, _QUERY_SAFE) if query else resource


def hide_secrets(url: str) -> str:
    """The URL for a message or a log: user name, password, query and
    fragment replaced, and cut to a line.

    The URL may be malformed. A '/' or '#' that stands in a password as it is
    ends the host for a parser, so in doubt all up to the last '@' goes.
    """
    if '@' in url and _NO_USERINFO.match(url) is None:
        before = _BEFORE_USERINFO.match(url)
        url = f'{before[0] if before else ""}***@{url.rpartition("@")[2]}'
    for mark in '?#':
        head, found, _ = url.partition(mark)
        if found:
            url = f'{head}{mark}...'
    return url if len(url) <= _SHOWN_MAX else url[:_SHOWN_MAX] + '...'


# --- parts that the URLs of proxies have as well ---


def check_characters(url: str) -> None:
    """ValueError where a URL has what no URL may have.

    urllib drops line breaks and tabs silently, and others split at them.
    """
    unfit = _UNFIT.search(url)
    if unfit is not None:
        raise ValueError(
            f'it has {unfit[0]!r} at index {unfit.start()}; spaces and '
            'control characters are to be percent-encoded'
        )


def split_authority(
    authority: str,
) -> tuple[str, int | None, tuple[str, str] | None]:
    """The host in ASCII, the port, and (user name, password).

    The texts of its ValueErrors repeat nothing: it may be a password.
    """
    userinfo, _, hostport = authority.rpartition('@')
    if '@' in userinfo:
        raise ValueError("it has more than one '@'; write %40 in a password")
    if '\\' in authority:
        raise ValueError("it has a '\\' before the path; write '/', or %5C")
    auth = _split_userinfo(userinfo) if userinfo else None
    if hostport.startswith('['):
        host, bracket, port = hostport[1:].partition(']')
        if not bracket or (port and not port.startswith(':')):
            raise ValueError("expected '[', an IPv6 address and ']'")
        return _check_ipv6(host), _split_port(port[1:]), auth
    host, _, port = hostport.partition(':')
    if ':' in port:
        raise ValueError(
            'it has more than one colon before the path; an IPv6 address '
            'stands in brackets'
        )
    return _check_name(host), _split_port(port), auth


def format_netloc(host: str, port: int, default: int) -> str:
    """Host and port, with brackets around IPv6 and without its zone."""
    if ':' in host:
        host = f'[{host.partition("%")[0]}]'
    return host if port == default else f'{host}:{port}'


# --- details ---


def _split_userinfo(userinfo: str) -> tuple[str, str]:
    name, _, password = userinfo.partition(':')
    try:
        auth = (
            unquote(name, errors='strict'),
            unquote(password, errors='strict'),
        )
    except UnicodeError:
        raise ValueError(
            'its user name or password is no percent-encoded UTF-8'
        ) from None
    # RFC 7617 section 2; line breaks would end a header field.
    if any(_has_control(text) for text in auth):
        raise ValueError('its user name or password has a control character')
    return auth


def _has_control(text: str) -> bool:
    return any(char < ' ' or '\x7f' <= char <= '\x9f' for char in text)


def _split_port(text: str) -> int | None:
    if text == '':
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 5:
        port = int(text)
        if 1 <= port <= 65535:
            return port
    raise ValueError('its port is no number from 1 to 65535')


def _check_ipv6(text: str) -> str:
    # RFC 6874 writes the zone's '%' as %25, people write it as it is.
    address, percent, zone = text.partition('%')
    if zone.startswith('25') and len(zone) > 2:
        zone = unquote(zone[2:])
    try:
        host = str(IPv6Address(address))
    except ValueError:
        raise ValueError('in its brackets is no IPv6 address') from None
    if not percent:
        return host
    if _ZONE.fullmatch(zone) is None:
        raise ValueError("the zone of its IPv6 address is no name as 'eth0'")
    return f'{host}%{zone}'


def _check_name(host: str) -> str:
    if host == '':
        raise ValueError('it names no host')
    if len(host) > _HOST_MAX + 1:
        raise ValueError(f'its host is longer than {_HOST_MAX} characters')
    if not host.isascii():
        host = _to_ascii(host)
    host = host.lower()
    labels = host.removesuffix('.').split('.')
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            'its host is no name: between dots stand 1 to 63 letters, digits '
            'and hyphens'
        )
    if len('.'.join(labels)) > _HOST_MAX:
        raise ValueError(f'its host is longer than {_HOST_MAX} characters')
    if _NUMBER.fullmatch(labels[-1]) is not None:
        # Resolvers read 127.1, 2130706433 and 0x7f.1 as addresses; what
        # compares hosts (no_proxy, redirects) does not.
        try:
            host = str(IPv4Address('.'.join(labels)))
        except ValueError:
            raise ValueError(
                'its host ends in a number, but is no IPv4 address of four '
                'decimal numbers'
            ) from None
    return host


def _to_ascii(host: str) -> str:
    deviation = _DEVIATIONS.search(host)
    if deviation is not None:
        raise ValueError(
            f"its host has {deviation[0]!a}, which standards don't agree on; "
            "write the host in its ASCII form, 'xn--...'"
        )
    try:
        return host.encode('idna').decode('ascii')
    except UnicodeError:
        raise ValueError(
            'its host is no internationalized domain name (RFC 3490)'
        ) from None


def _quote(text: str, safe: str) -> str:
    return quote(_STRAY_PERCENT.sub('%25', text), safe=safe)
