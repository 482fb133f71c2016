"""Certificates of peers, and what `ssl_args` may hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

__all__ = ['Certificate']

Password: TypeAlias = str | bytes | Callable[[], str | bytes]

# Numbers of ssl.TLSVersion, which is not imported for them: to import ssl
# takes longer than to import twspy.
_VERSIONS = {0x0303: 'TLSv1_2', 0x0304: 'TLSv1_3'}
_OLDEST = 0x0303

_SERVER_ONLY = frozenset(('require_client_cert', 'certificates'))
_CLIENT_ONLY = frozenset(('server_hostname', 'verify'))
_NAMES = (
    'certfile',
    'keyfile',
    'password',
    'cafile',
    'capath',
    'require_client_cert',
    'ciphers',
    'minimum_version',
    'alpn',
    'server_hostname',
    'verify',
    'certificates',
)

# RFC 7301 section 3.1.
_PROTOCOL_MAX = 255
_PROTOCOLS_MAX = 65535


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a peer's certificate says (RFC 5280). It is the peer's word, and
    true only where the certificate was verified.

    der            the certificate itself, bytes
    subject        whom it is for, as 'CN=example.org,O=Example' (RFC 2253)
    issuer         who has signed it, in the same form
    serial_number  hexadecimal digits
    not_before     the first moment that it is valid, a datetime in UTC
    not_after      the last one
    names          what else it is for: ('DNS', 'example.org') and so on, with
                   'DNS', 'IP', 'email' or 'URI'
    """

    __module__ = 'twspy'

    der: bytes = field(repr=False)
    subject: str
    issuer: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    names: tuple[tuple[str, str], ...]

    def fingerprint(self, algorithm: str = 'sha256') -> str:
        """Return the digest of the certificate, in hexadecimal digits.

        algorithm: any name that `hashlib.new()` knows; ValueError for others
        """
        return hashlib.new(algorithm, self.der).hexdigest()


@dataclass(frozen=True, slots=True)
class SSLArgs:
    """`ssl_args`, checked, with defaults for what was not given.

    certificates: (host name, certfile, keyfile) each; the one without a name
    is where no other fits, and a client's own
    minimum_version: as TLS counts, 0x0303 for TLS 1.2
    alpn: in wire form (RFC 7301 section 3.1)
    server_hostname: not what tells contexts apart
    """

    certificates: tuple[tuple[str | None, str, str], ...] = ()
    password: Password | None = field(default=None, repr=False)
    cafile: str | None = None
    capath: str | None = None
    require_client_cert: bool = False
    ciphers: str | None = None
    minimum_version: int = _OLDEST
    alpn: bytes = b''
    server_hostname: str | None = field(default=None, compare=False)
    verify: bool = True

    def read_password(self) -> str | None:
        """The password of the keys, which may be asked for now.

        TypeError where that gives no text, ValueError where it is no UTF-8
        or holds a null character; what the function raises.
        """
        password = self.password
        source = 'password'
        if callable(password):
            password = password()
            source = 'what password() returned'
        if password is None:
            if self.password is None:
                return None
        elif isinstance(password, bytes):
            try:
                password = password.decode()
            except UnicodeDecodeError:
                # Without the cause, which shows it.
                raise ValueError(f'{source} is not UTF-8') from None
        if not isinstance(password, str):
            raise TypeError(
                f'{source} is {type(password).__name__}, expected str or bytes'
            )
        if '\0' in password:
            raise ValueError(f'{source} holds a null character')
        return password


def check_names(ssl_args: Mapping[str, Any]) -> None:
    """TypeError where there is something that `ssl_args` does not have."""
    for name in ssl_args:
        if name not in _NAMES:
            raise TypeError(
                f'ssl_args has {name!r}, expected some of {", ".join(_NAMES)}'
            )


def check_ssl_args(ssl_args: Mapping[str, Any], server_side: bool) -> SSLArgs:
    """What `ssl_args` say, for one side; None stands for what is not given.

    Files are not looked at. Raises TypeError and ValueError that name the
    argument.
    """
    check_names(ssl_args)
    given = {
        name: value for name, value in ssl_args.items() if value is not None
    }
    for name in sorted(_CLIENT_ONLY if server_side else _SERVER_ONLY):
        if name in given:
            raise TypeError(_advise(name, server_side))
    certificates = _check_certificates(given)
    if server_side and not certificates:
        raise ValueError(
            'ssl_args has no certfile, which a server needs: expected the '
            'path of a PEM file with its certificate, and keyfile where the '
            'key is not in the same file'
        )
    return SSLArgs(
        certificates=certificates,
        password=_check_password(given, certificates),
        cafile=_check_path('cafile', given.get('cafile')),
        capath=_check_path('capath', given.get('capath')),
        require_client_cert=_check_bool(given, 'require_client_cert', False),
        ciphers=_check_text('ciphers', given.get('ciphers')),
        minimum_version=_check_version(given.get('minimum_version', _OLDEST)),
        alpn=_pack_alpn(given.get('alpn', ())),
        server_hostname=_check_text(
            'server_hostname', given.get('server_hostname')
        ),
        verify=_check_bool(given, 'verify', True),
    )


def _advise(name: str, server_side: bool) -> str:
    """What to say of an argument for the other side."""
    if not server_side:
        return f'{name} is for servers: leave it out for a client'
    advice = f'{name} is for clients: leave it out for a server'
    if name == 'verify':
        advice += ', which has require_client_cert'
    return advice


def _check_certificates(
    given: Mapping[str, Any],
) -> tuple[tuple[str | None, str, str], ...]:
    certfile = _check_path('certfile', given.get('certfile'))
    keyfile = _check_path('keyfile', given.get('keyfile'))
    if keyfile is not None and certfile is None:
        raise ValueError(
            f'keyfile is {keyfile!r}, but there is no certfile: a key needs '
            'its certificate'
        )
    found: list[tuple[str | None, str, str]] = []
    if certfile is not None:
        found.append((None, certfile, keyfile or certfile))
    others = given.get('certificates', {})
    if not isinstance(others, Mapping):
        raise TypeError(
            f'certificates is {type(others).__name__}, expected a mapping '
            '{host name: (certfile, keyfile)}'
        )
    for name, files in others.items():
        found.append(_check_named(name, files))
    return tuple(found)


def _check_named(name: Any, files: Any) -> tuple[str, str, str]:
    """One item of `certificates`."""
    checked = _check_text('a host name in certificates', name)
    what = f'certificates[{name!r}]'
    if not isinstance(files, (tuple, list)) or len(files) != 2:
        size = f' of {len(files)}' if isinstance(files, (tuple, list)) else ''
        raise TypeError(
            f'{what} is {type(files).__name__}{size}, expected a pair '
            '(certfile, keyfile)'
        )
    certfile = _check_path(f'{what}[0]', files[0])
    keyfile = _check_path(f'{what}[1]', files[1])
    if checked is None or certfile is None:
        raise TypeError(
            f'{what} is {files!r}, expected a host name and the path of its '
            'certificate'
        )
    return checked, certfile, keyfile or certfile


def _check_password(
    given: Mapping[str, Any], certificates: object
) -> Password | None:
    password: Password | None = given.get('password')
    if password is None:
        return None
    if not (isinstance(password, (str, bytes)) or callable(password)):
        raise TypeError(
            f'password is {type(password).__name__}, expected str, bytes or '
            'a function that returns it'
        )
    if not certificates:
        raise ValueError(
            'password is given, but there is no certfile whose key needs it'
        )
    return password


def _check_path(name: str, path: Any) -> str | None:
    if path is None:
        return None
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(
            f'{name} is {type(path).__name__}, expected a path, str or '
            'os.PathLike'
        )
    return _check_text(name, path)


def _check_text(name: str, text: Any) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f'{name} is {type(text).__name__}, expected str')
    if not text or '\0' in text:
        raise ValueError(
            f'{name} is {text!r}, expected some characters, none of them null'
        )
    return text


def _check_bool(given: Mapping[str, Any], name: str, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise TypeError(f'{name} is {value!r}, expected True or False')
    return value


def _check_version(version: Any) -> int:
    known = ' or '.join(
        f'ssl.TLSVersion.{each}' for each in _VERSIONS.values()
    )
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f'minimum_version is {version!r}, expected {known}')
    if version not in _VERSIONS:
        name = getattr(version, 'name', version)
        raise ValueError(
            f'minimum_version is {name}, expected {known}: older versions '
            'are not secure and not offered'
        )
    return int(version)


def _pack_alpn(protocols: Any) -> bytes:
    """Names of protocols, each behind its length."""
    if isinstance(protocols, (str, bytes)) or not isinstance(
        protocols, Iterable
    ):
        raise TypeError(
            f'alpn is {type(protocols).__name__}, expected an iterable of '
            "str, such as ['http/1.1']"
        )
    packed = b''
    for protocol in protocols:
        if not isinstance(protocol, str):
            raise TypeError(
                f'alpn has {type(protocol).__name__} in it, expected str'
            )
        name = protocol.encode()
        if not 1 <= len(name) <= _PROTOCOL_MAX:
            raise ValueError(
                f'alpn has a name of {len(name)} bytes in it, expected 1 to '
                f'{_PROTOCOL_MAX}'
            )
        packed += bytes([len(name)]) + name
    if len(packed) > _PROTOCOLS_MAX:
        raise ValueError(
            f'alpn has {len(packed)} bytes, expected at most {_PROTOCOLS_MAX}'
        )
    return packed
