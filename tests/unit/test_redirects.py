"""Where a redirect leads, and what is taken along."""

from __future__ import annotations

import pytest

from twspy import HandshakeError, Headers
from twspy._redirects import Hop, follow, is_redirect, not_followed, resolve
from twspy.uri import parse_uri

BASE = 'ws://h:8000/a/b?q'
HEADERS = (
    ('Authorization', 'Bearer x'),
    ('COOKIE', 'a=1'),
    ('cookie', 'b=2'),
    ('Proxy-Authorization', 'Basic x'),
    ('X-Api', 'key'),
)
SSL_ARGS = {
    'certfile': 'c',
    'keyfile': 'k',
    'password': 'p',
    'server_hostname': 'n',
    'cafile': 'ca',
    'verify': True,
}


def hop(url: str = BASE) -> Hop:
    return Hop(parse_uri(url), ('user', 's3cret'), HEADERS, SSL_ARGS)


def refusal(location: str, status: int = 302) -> HandshakeError:
    headers = Headers([('Location', location), ('X-Other', '1')])
    return HandshakeError('the server answered', status, headers, b'body')


@pytest.mark.parametrize(
    ('location', 'expected'),
    [
        ('ws://other/', 'ws://other/'),
        ('WS://other', 'ws://other/'),
        ('wss://other:1/x', 'wss://other:1/x'),
        ('http://other/x', 'ws://other/x'),
        ('HTTPS://other/x?y', 'wss://other/x?y'),
        ('//other/x', 'ws://other/x'),
        ('//other:9', 'ws://other:9/'),
        ('/x', 'ws://h:8000/x'),
        ('x', 'ws://h:8000/a/x'),
        ('../x', 'ws://h:8000/x'),
        ('../../../x', 'ws://h:8000/x'),
        ('./', 'ws://h:8000/a/'),
        ('?z', 'ws://h:8000/a/b?z'),
        ('', 'ws://h:8000/a/b?q'),
        ('#f', 'ws://h:8000/a/b?q'),
        ('/x#f', 'ws://h:8000/x'),
        ('/x?http://y', 'ws://h:8000/x?http://y'),
        ('/ü', 'ws://h:8000/%C3%BC'),
        ('/%2e', 'ws://h:8000/%2e'),
        ('/a:b', 'ws://h:8000/a:b'),
        ('@x', 'ws://h:8000/a/@x'),
    ],
)
def test_resolved(location: str, expected: str) -> None:
    assert resolve(parse_uri(BASE), location) == parse_uri(expected)


def test_a_relative_one_keeps_the_scheme_and_the_zone() -> None:
    base = parse_uri('wss://u:p@[fe80::1%25eth0]:9/a')
    assert resolve(base, '/b') == parse_uri('wss://[fe80::1%25eth0]:9/b')
    assert resolve(base, '//h/b') == parse_uri('wss://h/b')


@pytest.mark.parametrize(
    ('location', 'why'),
    [
        ('ftp://other/', 'neither'),
        ('file:///etc/passwd', 'neither'),
        ('javascript:alert(1)', 'neither'),
        ('http:/x', 'expected ws://'),
        ('http:x', 'expected ws://'),
        ('http://', 'no host'),
        ('///x', 'no host'),
        ('//a:x/', 'port'),
        ('//a\\b/', 'before the path'),
        ('/a\\b', 'path'),
        ('/a b', 'index 2'),
        ('/a\tb', 'index 2'),
        ('//user:pw@other/', 'user name'),
        ('ws://user@h:8000/', 'user name'),
    ],
)
def test_refused(location: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        resolve(parse_uri(BASE), location)
    with pytest.raises(HandshakeError, match=why) as caught:
        follow(hop(), refusal(location), 0, 10)
    error = caught.value
    assert (error.status, error.body) == (302, b'body')
    assert error.headers['location'] == location
    assert 'answered 302 with a redirect' in str(error)
    assert 'pw' not in str(error)


@pytest.mark.parametrize(
    'location', ['ws://h/', 'http://h/', 'ws://other/', 'http://h:443/']
)
def test_never_from_encrypted_to_not(location: str) -> None:
    base = hop('wss://h/')
    with pytest.raises(HandshakeError, match='encrypted') as caught:
        follow(base, refusal(location), 0, 10)
    assert location in str(caught.value)
    assert '302' in str(caught.value)
    assert follow(base, refusal('https://h/x'), 0, 10).uri.secure
    assert follow(base, refusal('/x'), 0, 10).uri.secure


@pytest.mark.parametrize(
    'location',
    ['/x', 'ws://h:8000/x', 'http://h:8000/', '//H:8000', '?z'],
)
def test_on_the_same_origin_all_goes_along(location: str) -> None:
    further = follow(hop(), refusal(location), 0, 10)
    assert further[1:] == hop()[1:]
    assert further.uri.auth is None


@pytest.mark.parametrize(
    'location',
    [
        'ws://h:8001/',
        'ws://h.:8000/',
        'ws://www.h:8000/',
        'ws://other:8000/',
        '//other:8000/',
    ],
)
def test_on_another_origin_credentials_stay_behind(location: str) -> None:
    further = follow(hop(), refusal(location), 0, 10)
    assert further.auth is None
    assert further.headers == (('X-Api', 'key'),)
    assert further.ssl_args == {'cafile': 'ca', 'verify': True}
    # And they don't come back.
    back = follow(further, refusal(BASE), 1, 10)
    assert back.uri == parse_uri(BASE)
    assert back[1:] == further[1:]


@pytest.mark.parametrize('location', ['wss://h/', 'https://h:80/'])
def test_an_upgrade_to_tls_is_another_origin(location: str) -> None:
    further = follow(hop('ws://h/'), refusal(location), 0, 10)
    assert further.auth is None
    assert further.headers == (('X-Api', 'key'),)


def test_limit() -> None:
    assert follow(hop(), refusal('/x'), 9, 10)
    with pytest.raises(HandshakeError, match='more than 10') as caught:
        follow(hop(), refusal('/x?token=s3cret'), 10, 10)
    assert "'/x?...'" in str(caught.value)
    with pytest.raises(HandshakeError, match=r'redirects=0'):
        follow(hop(), refusal('/x'), 0, 0)


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_status(status: int) -> None:
    assert is_redirect(refusal('/x', status))
    assert not is_redirect(HandshakeError('no', status))
    of_a_proxy = refusal('/x', status)
    of_a_proxy.by_proxy = True
    assert not is_redirect(of_a_proxy)


@pytest.mark.parametrize('status', [200, 300, 304, 305, 306, 309, 401, 503])
def test_other_status(status: int) -> None:
    assert not is_redirect(refusal('/x', status))


def test_several_locations() -> None:
    headers = Headers([('Location', '/a'), ('location', '/b')])
    error = HandshakeError('no', 302, headers)
    with pytest.raises(HandshakeError, match='more than one Location'):
        follow(hop(), error, 0, 10)
    headers = Headers([('Location', '/a'), ('location', '/a')])
    error = HandshakeError('no', 302, headers)
    assert follow(hop(), error, 0, 10).uri.resource == '/a'


def test_utf8_in_a_location() -> None:
    raw = '/ü'.encode().decode('latin-1')
    further = follow(hop(), refusal(raw), 0, 10)
    assert further.uri.resource == '/%C3%BC'
    assert follow(hop(), refusal('/\xfc'), 0, 10).uri.resource == '/%C3%BC'


def test_nothing_shows_credentials() -> None:
    assert repr(hop('ws://user:s3cret@h/?s3cret')) == '<Hop ws://h/?...>'
    error = not_followed(refusal('//user:s3cret@h/?t=s3cret'), 'why')
    assert 's3cret' not in str(error)
