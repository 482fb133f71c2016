"""WebSocket URLs: their parts, what is refused, and what is shown of them."""

from __future__ import annotations

import copy
import pickle

import pytest

import twspy
from twspy.uri import URI, hide_secrets, parse_uri

# --- parts ---


@pytest.mark.parametrize(
    ('url', 'origin', 'resource'),
    [
        ('ws://h', ('ws', 'h', 80), '/'),
        ('wss://h', ('wss', 'h', 443), '/'),
        ('WS://HOST.Example/', ('ws', 'host.example', 80), '/'),
        ('ws://h:8000/chat', ('ws', 'h', 8000), '/chat'),
        ('ws://h:/', ('ws', 'h', 80), '/'),
        ('wss://h:00443/', ('wss', 'h', 443), '/'),
        ('ws://h?a=1', ('ws', 'h', 80), '/?a=1'),
        ('ws://h/p?', ('ws', 'h', 80), '/p'),
        ('ws://h/p?a?b', ('ws', 'h', 80), '/p?a?b'),
        ('ws://h:65535//x/../y', ('ws', 'h', 65535), '//x/../y'),
        ('ws://h/a:b@c', ('ws', 'h', 80), '/a:b@c'),
        ('ws://my_host-1./', ('ws', 'my_host-1.', 80), '/'),
        ('ws://127.0.0.1/', ('ws', '127.0.0.1', 80), '/'),
        ('ws://1.2.example/', ('ws', '1.2.example', 80), '/'),
        ('ws://[::1]:9/', ('ws', '::1', 9), '/'),
        ('ws://[2001:DB8:0:0::1]/', ('ws', '2001:db8::1', 80), '/'),
        ('ws://[fe80::1%25eth0]/', ('ws', 'fe80::1%eth0', 80), '/'),
        ('ws://[fe80::1%eth0]/', ('ws', 'fe80::1%eth0', 80), '/'),
        ('ws://[fe80::1%25]/', ('ws', 'fe80::1%25', 80), '/'),
        ('ws://bücher.example/', ('ws', 'xn--bcher-kva.example', 80), '/'),
        ('ws://例え。テスト/', ('ws', 'xn--r8jz45g.xn--zckzah', 80), '/'),
    ],
)
def test_parts(url: str, origin: tuple[str, str, int], resource: str) -> None:
    uri = parse_uri(url)
    assert (uri.origin, uri.resource) == (origin, resource)
    assert uri.secure == (origin[0] == 'wss')
    assert uri.auth is None


@pytest.mark.parametrize(
    ('url', 'resource'),
    [
        ('ws://h/%20%e4%2F', '/%20%e4%2F'),
        ('ws://h/100%', '/100%25'),
        ('ws://h/%zz%1', '/%25zz%251'),
        ('ws://h/ü', '/%C3%BC'),
        ('ws://h/\U0001f30d?\u4e16', '/%F0%9F%8C%8D?%E4%B8%96'),
        ('ws://h/{}|^`"<>', '/%7B%7D%7C%5E%60%22%3C%3E'),
        ('ws://h/?a[]=1&b=\\', '/?a%5B%5D=1&b=%5C'),
        ("ws://h/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
        ("ws://h/?-._~!$&'()*+,;=:@/?", "/?-._~!$&'()*+,;=:@/?"),
    ],
)
def test_what_a_request_can_not_carry_is_encoded(
    url: str, resource: str
) -> None:
    assert parse_uri(url).resource == resource
    assert parse_uri(f'ws://h{resource}').resource == resource


@pytest.mark.parametrize(
    ('url', 'netloc'),
    [
        ('ws://h/', 'h'),
        ('ws://h:80/', 'h'),
        ('ws://h:443/', 'h:443'),
        ('wss://h:443/', 'h'),
        ('wss://h:80/', 'h:80'),
        ('wss://[::1]/', '[::1]'),
        ('wss://u:p@[fe80::1%25eth0]:8/', '[fe80::1]:8'),
    ],
)
def test_host_field(url: str, netloc: str) -> None:
    assert parse_uri(url).netloc == netloc


@pytest.mark.parametrize(
    ('userinfo', 'auth'),
    [
        ('', None),
        ('user', ('user', '')),
        ('user:', ('user', '')),
        (':secret', ('', 'secret')),
        ('user:secret', ('user', 'secret')),
        ('u:a:b', ('u', 'a:b')),
        ('%75%40x:%3a%2f%20%25', ('u@x', ':/ %')),
        ('j%C3%BCrgen:p%C3%A4ss', ('jürgen', 'päss')),
        ('jürgen:päss', ('jürgen', 'päss')),
        ('u:100%', ('u', '100%')),
    ],
)
def test_credentials(userinfo: str, auth: tuple[str, str] | None) -> None:
    assert parse_uri(f'ws://{userinfo}@h:1/x').auth == auth
    assert parse_uri(f'ws://{userinfo}@h:1/x').origin == ('ws', 'h', 1)


# --- what is refused ---


@pytest.mark.parametrize(
    ('url', 'why'),
    [
        ('', 'expected ws://'),
        ('h', 'expected ws://'),
        ('//h/', 'expected ws://'),
        ('ws:h', 'expected ws://'),
        ('ws:/h', 'expected ws://'),
        ('wsx://h', 'expected ws://'),
        ('ftp://h', 'expected ws://'),
        ('http://h', 'expected ws: instead of http:'),
        ('HTTPS://h', 'wss: for https:'),
        ('ws://', 'names no host'),
        ('ws:///path', 'names no host'),
        ('ws://:80/', 'names no host'),
        ('ws://u:p@/', 'names no host'),
        ('ws://h/#', 'fragment'),
        ('ws://h#f', 'fragment'),
        ('ws://h?q#f', 'fragment'),
        ('ws://h:0/', 'port'),
        ('ws://h:65536/', 'port'),
        ('ws://h:-1/', 'port'),
        ('ws://h:+1/', 'port'),
        ('ws://h:1_0/', 'port'),
        ('ws://h:٨٠/', 'port'),
        ('ws://h:080000/', 'port'),
        ('ws://h:http/', 'port'),
        ('ws://h:1:2/', 'more than one colon'),
        ('ws://::1/', 'more than one colon'),
        ('ws://a@b@h/', "more than one '@'"),
        ('ws:\\\\h\\x', 'expected ws://'),
        ('ws://h\\x', 'before the path'),
        ('ws://good.example\\@h/', 'before the path'),
        ('ws://h/a\\b', 'its path'),
        ('ws://[::1/', 'IPv6'),
        ('ws://[::1]x/', 'IPv6'),
        ('ws://[]/', 'IPv6'),
        ('ws://[h]/', 'IPv6'),
        ('ws://[127.0.0.1]/', 'IPv6'),
        ('ws://[v1.x]/', 'IPv6'),
        ('ws://[::1%25a%25b]/', 'zone'),
        ('ws://[::1%25a%2Fb]/', 'zone'),
        ('ws://[::1%]/', 'zone'),
        ('ws://::1]/', 'colon'),
        ('ws://a..b/', 'no name'),
        ('ws://.a/', 'no name'),
        ('ws://./', 'no name'),
        ('ws://a%41/', 'no name'),
        ('ws://a,b/', 'no name'),
        ('ws://a*b/', 'no name'),
        ('ws://' + 'x' * 64 + '/', '1 to 63'),
        ('ws://' + 'x.' * 127 + 'x/', 'longer than 253'),
        ('ws://' + 'x' * 300 + '/', 'longer than 253'),
        ('ws://127.1/', 'IPv4'),
        ('ws://2130706433/', 'IPv4'),
        ('ws://0x7f.1/', 'IPv4'),
        ('ws://127.0.0.01/', 'IPv4'),
        ('ws://256.0.0.1/', 'IPv4'),
        ('ws://1.2.3.4.5/', 'IPv4'),
        ('ws://ü' + 'x' * 63 + '/', 'internationalized'),
        ('ws://ü..x/', 'internationalized'),
        ('ws://a\uff0fb/', 'no name'),
        ('ws://a\uff20b/', 'no name'),
        ('ws://\u2100.example/', 'no name'),
        ('ws://stra\xdfe.example/', 'standards'),
        ('ws://a\u200db.example/', 'standards'),
        ('ws://%ff@h/', 'UTF-8'),
        ('ws://u:%c3@h/', 'UTF-8'),
        ('ws://u:a%0d%0ab@h/', 'control character'),
        ('ws://u%00:p@h/', 'control character'),
    ],
)
def test_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_uri(url)
    assert str(caught.value).startswith('url is ')
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 450
    assert caught.value.__context__ is None  # it may show what it is about


@pytest.mark.parametrize('place', [0, 2, 5, 7, 9, 11, 13])
@pytest.mark.parametrize(
    'char',
    [
        '\r',
        '\n',
        '\r\n',
        '\0',
        ' ',
        '\t',
        '\x0b',
        '\x1b',
        '\x7f',
        '\x85',
        '\xa0',
        '\u2028',
        '\u3000',
        '\ud800',
    ],
)
def test_white_space_and_control_characters(place: int, char: str) -> None:
    url = 'ws://h:80/p?q'
    with pytest.raises(ValueError, match=f'at index {place}') as caught:
        parse_uri(url[:place] + char + url[place:])
    assert repr(char[0]) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('url', [None, 5, b'ws://h/'])
def test_type(url: object) -> None:
    with pytest.raises(TypeError, match='expected a str'):
        parse_uri(url)  # type: ignore[arg-type]


# --- what is shown ---


@pytest.mark.parametrize(
    ('url', 'shown'),
    [
        ('ws://h:1/p', 'ws://h:1/p'),
        ('ws://h/p?token=abc', 'ws://h/p?...'),
        ('ws://h/p#abc', 'ws://h/p#...'),
        ('ws://h/p?a#b', 'ws://h/p?...'),
        ('ws://h/p@q', 'ws://h/p@q'),
        ('ws://h/?m=a@b', 'ws://h/?...'),
        ('ws://[::1]:1/@', 'ws://[::1]:1/@'),
        ('wss://user:secret@h/', 'wss://***@h/'),
        ('ws://user@h', 'ws://***@h'),
        ('ws://u:se/cret@h/x', 'ws://***@h/x'),
        ('ws://u:se?cret@h/x', 'ws://***@h/x'),
        ('ws://u:se#cret@h/x', 'ws://***@h/x'),
        ('ws://u:se\\cret@h/x', 'ws://***@h/x'),
        ('ws://u:se@cret@h/x', 'ws://***@h/x'),
        ('ws://u:[se]cret@h/x', 'ws://***@h/x'),
        ('ws:/u:secret@h/x', 'ws:/***@h/x'),
        ('ws:u:secret@h/x', 'ws:***@h/x'),
        ('u:secret@h/x', '***@h/x'),
        ('//u:secret@h/x', '***@h/x'),
        ('http://u:secret@h/x', 'http://***@h/x'),
        ('socks5h://u:secret@h', 'socks5h://***@h'),
        ('ws://h/' + 'x' * 300, 'ws://h/' + 'x' * 193 + '...'),
    ],
)
def test_secrets_are_hidden(url: str, shown: str) -> None:
    assert hide_secrets(url) == shown


@pytest.mark.parametrize(
    'url',
    [
        'ws://user:s3cret@h:x/',
        'ws://user:s3cret@h:70000/',
        'ws://user:s3cret@@h/',
        'ws://user:s3cret@/',
        'ws://user:s3cret@h/#f',
        'ws://user:s3cret@h/ ',
        'ws://user:s3cret@h/\\',
        'ws://user:s3cret/x@h/',
        'ws://user:s3cret?x@h/',
        'ws://user:s3cret#x@h/',
        'ws://user:s3cret%ff@h/',
        'ws://user:s3cret%0a@h/',
        'ws://user:s3cret\n@h/',
        'ws:user:s3cret@h/',
        'http://user:s3cret@h/',
        'user:s3cret@h/',
        'ws://user:s3cret@127.1/',
        'ws://user:s3cret@[::1/',
        'ws://h:x/?token=s3cret',
    ],
)
def test_errors_show_no_password(url: str) -> None:
    for call in (parse_uri, twspy.connect):
        with pytest.raises(ValueError) as caught:
            call(url)
        assert 's3cret' not in str(caught.value)
        assert 's3cret' not in repr(caught.value)
        assert caught.value.__context__ is None


def test_repr_and_str_show_no_password() -> None:
    uri = parse_uri('wss://user:s3cret@h:1/p?token=s3cret')
    assert uri.auth == ('user', 's3cret')
    assert str(uri) == 'wss://h:1/p?...'
    uri = parse_uri('wss://user:s3cret@h:1/p')
    assert repr(uri) == ("URI(secure=True, host='h', port=1, resource='/p')")


def test_equality_and_copies() -> None:
    uri = parse_uri('wss://user:secret@h:1/p')
    assert uri == URI(True, 'h', 1, '/p', ('user', 'secret'))
    assert uri != parse_uri('wss://h:1/p')
    assert pickle.loads(pickle.dumps(uri)) == copy.copy(uri) == uri
    assert len({uri, parse_uri('wss://user:secret@h:1/p')}) == 1
