"""Options that several commands share, and what they mean to twspy."""

from __future__ import annotations

import argparse
import getpass
import math
import sys
from collections.abc import Callable
from typing import Any


class UsageError(Exception):
    """Options that can't be used; its text says why."""


def seconds(text: str) -> float | None:
    """A time: above zero, None for inf."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected a number above zero'
        )
    return None if math.isinf(number) else number


def at_least(least: int) -> Callable[[str], int]:
    """A whole number that is not smaller."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f'{text!r}, expected a whole number, at least {least}'
            )
        return number

    return parse


def _port(text: str) -> int:
    number = at_least(0)(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f'{text!r}, expected at most 65535')
    return number


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Those of connect() that a person needs."""
    add = parser.add_argument
    add(
        '-H',
        '--header',
        action='append',
        default=[],
        metavar='NAME:VALUE',
        help='a field of the request; may be given often',
    )
    add(
        '-p',
        '--protocol',
        action='append',
        default=[],
        help='a subprotocol to ask for; may be given often',
    )
    add('-o', '--origin', help='what the Origin field says')
    add(
        '--auth',
        metavar='USER[:PASSWORD]',
        help='for Basic and Digest; asks for a password that is missing, as '
        'others may see the arguments of a program',
    )
    add('--proxy', help='its URL; none: connect directly')
    add('--compress', action='store_true', help='offer permessage-deflate')
    add(
        '--max-size',
        type=at_least(0),
        default=1 << 20,
        metavar='BYTES',
        help='of a message that comes; 0: no limit (default: 1 MiB)',
    )
    add(
        '--timeout',
        type=seconds,
        default=10.0,
        metavar='SECONDS',
        help='for connecting (default: 10)',
    )
    tls = parser.add_argument_group('TLS, for wss://')
    tls.add_argument(
        '--cafile',
        metavar='FILE',
        help="authorities to trust instead of the system's",
    )
    tls.add_argument('--cert', metavar='FILE', help='our own certificate')
    tls.add_argument(
        '--key',
        metavar='FILE',
        help='its private key, where it is not in the same file',
    )
    tls.add_argument(
        '--server-hostname',
        metavar='NAME',
        help='the name that the certificate must be for',
    )
    tls.add_argument(
        '--insecure',
        action='store_true',
        help='accept any certificate: anybody may listen',
    )


def client_options(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of connect()."""
    result: dict[str, Any] = {
        'headers': [_split_header(text) for text in options.header],
        'protocols': options.protocol,
        'origin': options.origin,
        'open_timeout': options.timeout,
        'max_size': options.max_size or None,
        'compression': 'deflate' if options.compress else None,
    }
    if options.auth is not None:
        result['auth'] = _split_auth(options.auth)
    if options.proxy is not None:
        result['proxy'] = None if options.proxy == 'none' else options.proxy
    tls = {
        'cafile': options.cafile,
        'certfile': options.cert,
        'keyfile': options.key,
        'server_hostname': options.server_hostname,
    }
    result['ssl_args'] = {
        key: value for key, value in tls.items() if value is not None
    }
    if options.insecure:
        result['ssl_args']['verify'] = False
    if not result['ssl_args']:
        del result['ssl_args']
    return result


def _split_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(':')
    if not colon or not name.strip():
        raise UsageError(f'header is {text!r}, expected NAME:VALUE')
    return name.strip(), value.strip()


def _split_auth(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(':')
    if not colon:
        if not sys.stdin.isatty():
            raise UsageError(
                '--auth has no password, and there is no terminal to ask at: '
                'write USER:PASSWORD'
            )
        password = getpass.getpass(f'Password of {name}: ')
    return name, password


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Those of Server that a person needs."""
    add = parser.add_argument
    add(
        '--host',
        default='127.0.0.1',
        help="'' for all IPv4 addresses, '::' for IPv6 as well "
        '(default: 127.0.0.1)',
    )
    add(
        '--port',
        type=_port,
        default=8000,
        help='0 picks one that is free (default: 8000)',
    )
    add('--unix', metavar='PATH', help='a Unix socket instead')
    add(
        '--origin',
        action='append',
        metavar='ORIGIN',
        help='of pages that may connect, may be given often; same-origin: '
        'those of this host and port; any: all (default: same-origin, but '
        'for a class with an __init__ of its own)',
    )
    add(
        '--protocol',
        action='append',
        help='a subprotocol to speak; may be given often',
    )
    add('--compress', action='store_true', help='agree to permessage-deflate')
    add(
        '--max-size',
        type=at_least(0),
        metavar='BYTES',
        help="of a message; 0: no limit (default: the class's own; 1 MiB)",
    )
    add(
        '--workers',
        type=at_least(1),
        default=1,
        metavar='N',
        help='processes that share the port (default: 1)',
    )
    add(
        '--log-level',
        metavar='LEVEL',
        choices=['debug', 'info', 'warning', 'error'],
        help="debug, info, warning or error (default: the class's own; info)",
    )
    tls = parser.add_argument_group('TLS, to serve wss://')
    tls.add_argument('--cert', metavar='FILE', help='certificate (PEM)')
    tls.add_argument(
        '--key',
        metavar='FILE',
        help='its private key, where it is not in the same file',
    )


def server_arguments(
    options: argparse.Namespace,
) -> tuple[Any, dict[str, Any]]:
    """The address, and those other arguments of Server that were given: a
    class may have defaults of its own."""
    result: dict[str, Any] = {}
    if options.log_level is not None:
        result['loglevel'] = options.log_level.upper()
    if options.origin is not None:
        result['trusted_origins'] = _origins(options.origin)
    if options.protocol is not None:
        result['protocols'] = options.protocol
    if options.compress:
        result['compression'] = 'deflate'
    if options.max_size is not None:
        result['max_size'] = options.max_size or None
    if options.cert is not None:
        result['ssl_args'] = {
            'certfile': options.cert,
            'keyfile': options.key or options.cert,
        }
    elif options.key is not None:
        raise UsageError('--key is given without --cert')
    return options.unix or (options.host, options.port), result


def _origins(given: list[str]) -> Any:
    for word, meaning in ('any', ()), ('same-origin', 'same-origin'):
        if word in given:
            if len(given) > 1:
                raise UsageError(f'--origin {word} is not the only --origin')
            return meaning
    return given
