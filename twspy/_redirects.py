"""Redirects of the opening handshake (RFC 6455 section 4.1, RFC 9110 15.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urljoin

from .errors import HandshakeError
from .uri import URI, check_characters, hide_secrets, split_uri

STATUSES = frozenset((301, 302, 303, 307, 308))

# What belongs to the server it was meant for.
_PRIVATE_HEADERS = frozenset(
    ('authorization', 'cookie', 'proxy-authorization')
)
_PRIVATE_SSL = frozenset(
    ('certfile', 'keyfile', 'password', 'server_hostname')
)

_SCHEMES = {'ws': 'ws', 'wss': 'wss', 'http': 'ws', 'https': 'wss'}
_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*):')


class Hop(NamedTuple):
    """Where to connect, and what to take along."""

    uri: URI
    auth: tuple[str, str] | None
    headers: tuple[tuple[str, str], ...]
    ssl_args: Mapping[str, Any]

    # A tuple would show the credentials.
    def __repr__(self) -> str:
        return f'<Hop {self.uri}>'


def is_redirect(error: HandshakeError) -> bool:
    """Whether this answer tells to go elsewhere.

    A proxy has no say in that, least of all where the server is to be
    reached by TLS: whose word it is, is not known then.
    """
    return (
        error.status in STATUSES
        and 'Location' in error.headers
        and not error.by_proxy
    )


def follow(hop: Hop, error: HandshakeError, followed: int, limit: int) -> Hop:
    """Where a redirect leads, after `followed` others.

    On another origin nothing is taken along that belongs to this one, and
    what was left behind once does not come back.

    Raises HandshakeError where it is not to be followed.
    """
    if followed >= limit:
        more = 'redirects are not followed (redirects=0)'
        if limit > 0:
            more = f'that is one redirect more than {limit} (redirects)'
        raise not_followed(error, more)
    try:
        uri = resolve(hop.uri, _location(error))
    except ValueError as reason:
        raise not_followed(error, str(reason)) from None
    if uri.origin == hop.uri.origin:
        return hop._replace(uri=uri)
    return Hop(
        uri,
        None,
        tuple(
            field
            for field in hop.headers
            if field[0].lower() not in _PRIVATE_HEADERS
        ),
        {
            name: value
            for name, value in hop.ssl_args.items()
            if name not in _PRIVATE_SSL
        },
    )


def not_followed(error: HandshakeError, why: str) -> HandshakeError:
    """The same error, telling where the redirect leads and why that ends."""
    locations = ', '.join(
        repr(hide_secrets(value)) for value in _locations(error)[:2]
    )
    return HandshakeError(
        f'the server answered {error.status} with a redirect to {locations}: '
        f'{why}',
        error.status,
        error.headers,
        error.body,
    )


def resolve(base: URI, location: str) -> URI:
    """The URL that a Location stands for; ValueError where it is none to
    follow."""
    check_characters(location)  # urljoin() drops some
    # A fragment is for who shows a document.
    location = location.partition('#')[0]
    scheme = _SCHEME.match(location)
    if scheme is not None:
        name = _SCHEMES.get(scheme[1].lower())
        if name is None:
            raise ValueError('it leads neither to ws(s): nor to http(s):')
        uri = split_uri(name + location[scheme.end() - 1 :])
    elif location.startswith('//'):
        uri = split_uri(f'{base.scheme}:{location}')
    else:
        resource = _join(base.resource, location)
        resource = split_uri(f'ws://host{resource}').resource
        uri = replace(base, resource=resource, auth=None)
    if base.secure and not uri.secure:
        raise ValueError(
            'it leads from an encrypted connection to one that is not'
        )
    if uri.auth is not None:
        raise ValueError('it has a user name, which only a caller may give')
    return uri


def _join(resource: str, location: str) -> str:
    """A reference without host, resolved (RFC 3986 section 5.2)."""
    return urljoin(f'http://host{resource}', location)[len('http://host') :]


def _locations(error: HandshakeError) -> list[str]:
    get_all = getattr(error.headers, 'get_all', None)
    if get_all is None:
        return [error.headers['Location']]
    values: list[str] = get_all('Location')
    return values


def _location(error: HandshakeError) -> str:
    values = set(_locations(error))
    if len(values) != 1:
        raise ValueError('there is more than one Location, expected one')
    value = values.pop()
    # Header fields are read as latin-1; servers that don't escape it write
    # UTF-8.
    try:
        return value.encode('latin-1').decode('utf-8')
    except UnicodeError:
        return value
