"""Which proxy a client goes through: an argument, or the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from .uri import (
    URI,
    check_characters,
    format_netloc,
    hide_secrets,
    split_authority,
)

# Schemes and the ports that they stand for where a URL names none: those of
# http: and https: as everywhere, and as urllib takes them; RFC 1928 for SOCKS.
_PORTS = {'http': 80, 'https': 443, 'socks5': 1080, 'socks5h': 1080}
_ALIASES = {'socks': 'socks5h'}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `str()` is without user name and password."""

    scheme: str  # 'http', 'https', 'socks5', or 'socks5h': it looks names up
    host: str
    port: int
    auth: tuple[str, str] | None = field(default=None, repr=False)

    def as_tuple(self) -> tuple[str, str, int, str | None, str | None]:
        """What websocket.connect() takes."""
        username, password = self.auth or (None, None)
        return self.scheme, self.host, self.port, username, password

    def __str__(self) -> str:
        return f'{self.scheme}://{format_netloc(self.host, self.port, 0)}'


def find_proxy(
    uri: URI, proxy: str | bool | None, environ: Mapping[str, str]
) -> Proxy | None:
    """The proxy for this URL, None to go there directly.

    proxy: a URL; True for what the environment says; None or False.

    Raises TypeError and ValueError, whose text shows no password.
    """
    if proxy is True:
        return _proxy_of_environment(uri, environ)
    if proxy is None or proxy is False:
        return None
    if not isinstance(proxy, str):
        raise TypeError(
            f'proxy is {type(proxy).__name__}, expected a URL, True for the '
            'environment or None for none'
        )
    return parse_proxy(proxy)


def parse_proxy(url: str, name: str = 'proxy') -> Proxy:
    """Split `scheme://[user:password@]host[:port]`; ValueError where it is
    none. `name` is what the text of the error calls it."""
    try:
        return _parse(url)
    except ValueError as error:
        text = f'{name} is {hide_secrets(url)!r}: {error}'
    raise ValueError(text)


def _parse(url: str) -> Proxy:
    check_characters(url)
    before, mark, rest = url.partition('://')
    if not mark:
        before, rest = 'http', url
    scheme = before.lower()
    scheme = _ALIASES.get(scheme, scheme)
    if scheme not in _PORTS:
        raise ValueError(
            'expected http://, https://, socks5:// or socks5h:// and '
            '[user:password@]host[:port]'
        )
    authority, _, more = rest.partition('/')
    if more or '?' in authority or '#' in authority:
        raise ValueError(
            'nothing may follow its host and port; write %2F, %3F and %23 '
            'in a password'
        )
    host, port, auth = split_authority(authority)
    return Proxy(scheme, host, port or _PORTS[scheme], auth)


# --- the environment ---


def _proxy_of_environment(
    uri: URI, environ: Mapping[str, str]
) -> Proxy | None:
    for name in ('https_proxy' if uri.secure else 'http_proxy', 'all_proxy'):
        name, value = _variable(name, environ)
        if value:
            _, no_proxy = _variable('no_proxy', environ)
            if is_exempt(uri.host, uri.port, no_proxy):
                return None
            return parse_proxy(value, name)
    return None


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Name and value of an environment variable: in lower case where it is
    there, else in upper case."""
    upper = name.upper()
    if name not in environ and upper in environ:
        # In a CGI program HTTP_PROXY is the field `Proxy` of a request, so
        # that a stranger would choose the proxy (CVE-2016-1000110).
        if upper != 'HTTP_PROXY' or 'REQUEST_METHOD' not in environ:
            name = upper
    return name, environ.get(name, '').strip()


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy` names this host, which is as in a URI.

    A name stands for itself and all below it, with or without a leading dot.
    An address stands for itself, a network in CIDR notation for its
    addresses; names are not looked up for them. Either may have a port.
    """
    entries = re.split(r'[\s,]+', no_proxy)
    return any(_matches(entry, host, port) for entry in entries if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == '*':
        return True
    network = _network(entry)
    if network is None:
        entry, named_port = _without_port(entry)
        if named_port not in ('', str(port)):
            return False
        network = _network(entry)
    if network is not None:
        try:
            return ip_address(host.partition('%')[0]) in network
        except ValueError:
            return False
    name = _ascii(entry).removeprefix('*').strip('.')
    host = host.rstrip('.')
    if not name or _is_address(host):
        return False  # '0.0.1' is no domain of 127.0.0.1
    return host == name or host.endswith('.' + name)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text.strip('[]'), strict=False)
    except ValueError:
        return None


def _without_port(entry: str) -> tuple[str, str]:
    before, colon, port = entry.rpartition(':')
    is_port = colon and port.isascii() and port.isdecimal()
    return (before, port) if is_port else (entry, '')


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def _ascii(name: str) -> str:
    name = name.lower()
    if name.isascii():
        return name
    try:
        return name.strip('.').encode('idna').decode('ascii')
    except UnicodeError:
        return name
