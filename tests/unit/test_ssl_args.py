"""What `ssl_args` may hold, and certificates as objects."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import twspy
from twspy import _tls, _twspy
from twspy.tls import Certificate, SSLArgs, check_names, check_ssl_args

SERVER = {'certfile': 'server.pem'}


def check(server_side: bool = True, **ssl_args: Any) -> SSLArgs:
    return check_ssl_args(ssl_args, server_side)


# Good ones


def test_defaults_of_a_client() -> None:
    assert check(False) == SSLArgs(
        certificates=(),
        password=None,
        cafile=None,
        capath=None,
        require_client_cert=False,
        ciphers=None,
        minimum_version=0x0303,
        alpn=b'',
        server_hostname=None,
        verify=True,
    )


def test_everything_of_a_server() -> None:
    args = check(
        certfile='server.pem',
        keyfile=Path('server.key'),
        password=b'sesame',
        cafile=Path('ca.pem'),
        capath='/etc/ssl/certs',
        require_client_cert=True,
        ciphers='ECDHE+AESGCM',
        minimum_version=ssl.TLSVersion.TLSv1_3,
        alpn=['http/1.1', 'h2'],
        certificates={
            'a.example': ('a.pem', 'a.key'),
            '*.b.example': [Path('b.pem'), None],
        },
    )
    assert dataclasses.asdict(args) == {
        'certificates': (
            (None, 'server.pem', 'server.key'),
            ('a.example', 'a.pem', 'a.key'),
            ('*.b.example', 'b.pem', 'b.pem'),
        ),
        'password': b'sesame',
        'cafile': 'ca.pem',
        'capath': '/etc/ssl/certs',
        'require_client_cert': True,
        'ciphers': 'ECDHE+AESGCM',
        'minimum_version': 0x0304,
        'alpn': b'\x08http/1.1\x02h2',
        'server_hostname': None,
        'verify': True,
    }
    assert type(args.minimum_version) is int


def test_everything_of_a_client() -> None:
    args = check(
        False,
        certfile='client.pem',
        verify=False,
        server_hostname='example.org',
        minimum_version=ssl.TLSVersion.TLSv1_2,
    )
    assert args.certificates == ((None, 'client.pem', 'client.pem'),)
    assert args.verify is False
    assert args.server_hostname == 'example.org'
    assert args.minimum_version == 0x0303


def test_none_is_not_given() -> None:
    nothing = dict.fromkeys(
        field.name for field in dataclasses.fields(SSLArgs)
    )
    assert check(False, **nothing, certfile=None, keyfile=None) == SSLArgs()
    assert check(**{**nothing, **SERVER}) == check(**SERVER)


@pytest.mark.parametrize(
    'others', [{'cafile': 'ca.pem'}, {'certificates': {}}, {'alpn': ()}]
)
def test_server_with(others: dict[str, Any]) -> None:
    assert check(**SERVER, **others).certificates[0][1] == 'server.pem'


def test_server_with_names_only() -> None:
    args = check(certificates={'a.example': ('a.pem', 'a.key')})
    assert args.certificates == (('a.example', 'a.pem', 'a.key'),)


def test_files_are_not_looked_at() -> None:
    args = check(certfile='/nowhere', cafile='/nowhere', capath='/nowhere')
    assert args.cafile == '/nowhere'


def test_arguments_are_a_key() -> None:
    """That contexts are kept by: the host is not the context's."""
    one = check(False, verify=False, server_hostname='a.example')
    two = check(False, verify=False, server_hostname='b.example')
    assert one == two
    assert hash(one) == hash(two)
    others = [
        check(False, certfile='x.pem'),
        check(False, certfile='x.pem', password='y'),
        check(False, alpn=['x']),
        check(False),
    ]
    assert len({one, *others}) == 5


def test_arguments_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        check(False).verify = False  # type: ignore[misc]


def test_alpn_is_any_iterable() -> None:
    assert check(False, alpn=(name for name in 'ab')).alpn == b'\x01a\x01b'
    assert check(False, alpn={'x' * 255: 1}).alpn == b'\xff' + b'x' * 255


# Bad ones


class OddPath:
    def __fspath__(self) -> bytes:
        return b'server.pem'


WRONG_TYPES: list[tuple[bool, dict[str, Any], str]] = [
    (True, {'colour': 1}, r"ssl_args has 'colour', expected some of certfile"),
    (True, {'certfile': b'x'}, 'certfile is bytes, expected a path'),
    (True, {'certfile': 1}, 'certfile is int, expected a path'),
    (True, {'certfile': OddPath()}, 'certfile is bytes, expected a path'),
    (True, {**SERVER, 'keyfile': 1}, 'keyfile is int'),
    (True, {**SERVER, 'cafile': b'x'}, 'cafile is bytes'),
    (True, {**SERVER, 'capath': ['x']}, 'capath is list'),
    (True, {**SERVER, 'password': 1}, 'password is int, expected str'),
    (True, {**SERVER, 'require_client_cert': 1}, 'require_client_cert is 1'),
    (True, {**SERVER, 'ciphers': ['x']}, 'ciphers is list, expected str'),
    (True, {**SERVER, 'minimum_version': '1.2'}, "minimum_version is '1.2'"),
    (True, {**SERVER, 'minimum_version': True}, 'minimum_version is True'),
    (True, {**SERVER, 'alpn': 'h2'}, 'alpn is str, expected an iterable'),
    (True, {**SERVER, 'alpn': b'h2'}, 'alpn is bytes, expected an iterable'),
    (True, {**SERVER, 'alpn': 1}, 'alpn is int, expected an iterable'),
    (True, {**SERVER, 'alpn': [b'h2']}, 'alpn has bytes in it'),
    (True, {'certificates': [1]}, 'certificates is list, expected a mapping'),
    (True, {'certificates': {1: ('a', 'b')}}, 'name in certificates is int'),
    (True, {'certificates': {None: ('a', 'b')}}, 'expected a host name'),
    (True, {'certificates': {'x': 'ab'}}, r"\['x'\] is str, expected a pair"),
    (True, {'certificates': {'x': ('a',)}}, 'is tuple of 1, expected a pair'),
    (True, {'certificates': {'x': (1, 'b')}}, r"\['x'\]\[0\] is int"),
    (True, {'certificates': {'x': ('a', 1)}}, r"\['x'\]\[1\] is int"),
    (True, {'certificates': {'x': (None, 'b')}}, 'its certificate'),
    (True, {**SERVER, 'server_hostname': 'x'}, 'server_hostname is for cli'),
    (True, {**SERVER, 'verify': True}, 'which has require_client_cert'),
    (False, {'require_client_cert': True}, 'require_client_cert is for serv'),
    (False, {'certificates': {}}, 'certificates is for servers: leave it out'),
    (False, {'verify': 0}, 'verify is 0, expected True or False'),
    (False, {'server_hostname': b'x'}, 'server_hostname is bytes'),
]

WRONG_VALUES: list[tuple[bool, dict[str, Any], str]] = [
    (True, {}, 'ssl_args has no certfile, which a server needs'),
    (True, {'certificates': {}}, 'ssl_args has no certfile'),
    (True, {'keyfile': 'x.key'}, "keyfile is 'x.key', but there is no certf"),
    (False, {'keyfile': 'x.key'}, "keyfile is 'x.key', but there is no certf"),
    (False, {'password': 'x'}, 'password is given, but there is no certfile'),
    (True, {'certfile': ''}, "certfile is '', expected some characters"),
    (True, {'certfile': 'a\0b'}, 'none of them null'),
    (True, {'certificates': {'': ('a', 'b')}}, 'name in certificates is ..'),
    (True, {**SERVER, 'ciphers': ''}, "ciphers is ''"),
    (False, {'server_hostname': ''}, "server_hostname is ''"),
    (False, {'alpn': ['']}, 'a name of 0 bytes in it, expected 1 to 255'),
    (False, {'alpn': ['x' * 256]}, 'a name of 256 bytes in it'),
    (False, {'alpn': ['é' * 128]}, 'a name of 256 bytes in it'),
    (False, {'alpn': ['x' * 255] * 256}, 'alpn has 65536 bytes'),
    (False, {'minimum_version': 0}, 'minimum_version is 0, expected ssl'),
    (
        False,
        {'minimum_version': ssl.TLSVersion.TLSv1_1},
        r'minimum_version is TLSv1_1, expected ssl\.TLSVersion\.TLSv1_2 or '
        r'ssl\.TLSVersion\.TLSv1_3: older versions are not secure',
    ),
    (
        False,
        {'minimum_version': ssl.TLSVersion.MINIMUM_SUPPORTED},
        'minimum_version is MINIMUM_SUPPORTED',
    ),
]


@pytest.mark.parametrize(('server_side', 'ssl_args', 'what'), WRONG_TYPES)
def test_wrong_types(
    server_side: bool, ssl_args: dict[str, Any], what: str
) -> None:
    with pytest.raises(TypeError, match=what):
        check_ssl_args(ssl_args, server_side)


@pytest.mark.parametrize(('server_side', 'ssl_args', 'what'), WRONG_VALUES)
def test_wrong_values(
    server_side: bool, ssl_args: dict[str, Any], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        check_ssl_args(ssl_args, server_side)


def test_names_alone() -> None:
    check_names({'certfile': 1, 'server_hostname': 2, 'verify': 3})
    with pytest.raises(TypeError, match=r"has 'cert', expected .* keyfile, "):
        check_names({'cert': 1})


# Passwords


@pytest.mark.parametrize(
    ('password', 'expected'),
    [
        (None, None),
        ('sésame', 'sésame'),
        ('sésame'.encode(), 'sésame'),
        ('', ''),
        (lambda: 'sesame', 'sesame'),
        (lambda: b'sesame', 'sesame'),
    ],
)
def test_password(password: Any, expected: str | None) -> None:
    args = check(**SERVER, password=password)
    assert args.read_password() == expected


SECRET = 'x-very-secret-x'


@pytest.mark.parametrize(
    ('password', 'error', 'what'),
    [
        (lambda: None, TypeError, r'what password\(\) returned is NoneType'),
        (lambda: 1, TypeError, r'what password\(\) returned is int'),
        (lambda: [SECRET], TypeError, r'what password\(\) returned is list'),
        (SECRET.encode() + b'\xff', ValueError, 'password is not UTF-8'),
        (SECRET + '\0', ValueError, 'password holds a null character'),
        (lambda: SECRET + '\0', ValueError, r'password\(\) returned holds'),
    ],
)
def test_password_of_no_use(
    password: Any, error: type[Exception], what: str
) -> None:
    args = check(**SERVER, password=password)
    with pytest.raises(error, match=what) as caught:
        args.read_password()
    exception: BaseException | None = caught.value
    assert exception is not None
    assert SECRET not in str(exception)
    assert exception.__cause__ is None
    assert exception.__suppress_context__ or exception.__context__ is None


def test_what_the_function_raises() -> None:
    def ask() -> str:
        raise KeyError('no keyring')

    with pytest.raises(KeyError, match='no keyring'):
        check(**SERVER, password=ask).read_password()


def test_function_is_asked_when_it_is_needed() -> None:
    asked: list[None] = []

    def ask() -> str:
        asked.append(None)
        return 'sesame'

    args = check(**SERVER, password=ask)
    assert not asked
    args.read_password()
    assert len(asked) == 1


@pytest.mark.parametrize(
    'password', [SECRET, SECRET.encode(), {'not': SECRET}, [SECRET]]
)
def test_password_is_never_shown(password: Any) -> None:
    shown: list[Any] = []
    for ssl_args in (
        {**SERVER, 'password': password},
        {**SERVER, 'password': password, 'colour': 1},
        {'password': password},
    ):
        try:
            shown.append(check_ssl_args(ssl_args, True))
        except (TypeError, ValueError) as error:
            shown.append(error)
    assert len(shown) == 3
    for each in shown:
        assert SECRET not in repr(each)


def test_password_of_several_keys_is_asked_for_once(
    certificates: Any,
) -> None:
    asked: list[None] = []

    def ask() -> str:
        asked.append(None)
        return 'open, sesame'

    locked = certificates.locked
    args = check(
        certfile=locked.combined,
        certificates={'a.example': (locked.certfile, locked.keyfile)},
        password=ask,
    )
    _tls.make_context(args, server_side=True)
    assert len(asked) == 1


# Certificates


CERTIFICATE = Certificate(
    b'\x30\x03\x02\x01\x00',
    'CN=example.org,O=Example',
    'CN=Example CA',
    '0A',
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2030, 1, 1, tzinfo=UTC),
    (('DNS', 'example.org'), ('IP', '192.0.2.1')),
)


def test_certificate() -> None:
    assert twspy.Certificate is Certificate
    assert CERTIFICATE.der == b'\x30\x03\x02\x01\x00'
    assert CERTIFICATE.subject == 'CN=example.org,O=Example'
    assert CERTIFICATE.issuer == 'CN=Example CA'
    assert CERTIFICATE.serial_number == '0A'
    assert CERTIFICATE.not_before.year == 2020
    assert CERTIFICATE.not_after.year == 2030
    assert dict(CERTIFICATE.names)['IP'] == '192.0.2.1'
    assert CERTIFICATE == dataclasses.replace(CERTIFICATE)
    assert len({CERTIFICATE, dataclasses.replace(CERTIFICATE)}) == 1
    assert pickle.loads(pickle.dumps(CERTIFICATE)) == CERTIFICATE
    with pytest.raises(dataclasses.FrozenInstanceError):
        CERTIFICATE.subject = 'CN=evil.example'  # type: ignore[misc]


def test_repr_of_a_certificate() -> None:
    text = repr(CERTIFICATE)
    assert text.startswith("Certificate(subject='CN=example.org,O=Example'")
    assert 'der' not in text


def test_fingerprint() -> None:
    for algorithm in ('sha256', 'sha1', 'sha512'):
        expected = hashlib.new(algorithm, CERTIFICATE.der).hexdigest()
        assert CERTIFICATE.fingerprint(algorithm) == expected
    assert len(CERTIFICATE.fingerprint()) == 64
    with pytest.raises(ValueError, match='md17'):
        CERTIFICATE.fingerprint('md17')


def stand_in(before: int, after: int) -> Callable[[bytes], Any]:
    names = (('email', 'a@example.org'), ('URI', 'urn:x'))
    return lambda der: ('CN=a', 'CN=b', 'FF', before, after, names)


def test_what_c_has_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_twspy, '_parse_certificate', stand_in(0, 86400))
    assert _tls.read_certificate(b'der') == Certificate(
        der=b'der',
        subject='CN=a',
        issuer='CN=b',
        serial_number='FF',
        not_before=datetime(1970, 1, 1, tzinfo=UTC),
        not_after=datetime(1970, 1, 2, tzinfo=UTC),
        names=(('email', 'a@example.org'), ('URI', 'urn:x')),
    )


def test_times_that_datetime_does_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds = -(1 << 63), (1 << 63) - 1
    monkeypatch.setattr(_twspy, '_parse_certificate', stand_in(*bounds))
    certificate = _tls.read_certificate(b'')
    assert certificate.not_before == datetime.min.replace(tzinfo=UTC)
    assert certificate.not_after == datetime.max.replace(tzinfo=UTC)


def test_real_certificate(certificates: Any) -> None:
    certificate = _tls.read_certificate(certificates.server.der)
    assert certificate.der == certificates.server.der
    assert certificate.subject.startswith('CN=localhost')
    assert 'O=twspy tests' in certificate.issuer
    assert certificate.names == (
        ('DNS', 'localhost'),
        ('IP', '127.0.0.1'),
        ('IP', '::1'),
    )
    assert certificate.not_before < datetime.now(UTC) < certificate.not_after
    old = _tls.read_certificate(certificates.expired.der)
    assert old.not_after == datetime(2001, 1, 1, tzinfo=UTC)


def test_ssl_is_imported_where_it_is_needed() -> None:
    code = (
        'import sys, twspy\n'
        'from twspy.tls import check_ssl_args\n'
        'check_ssl_args({"certfile": "x", "minimum_version": 772}, True)\n'
        'assert "ssl" not in sys.modules, "twspy imports ssl"\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ''
    assert done.returncode == 0
