"""Which proxy a client goes through."""

from __future__ import annotations

import pytest

import twspy
from twspy._proxies import Proxy, find_proxy, is_exempt, parse_proxy
from twspy.uri import parse_uri

WS = parse_uri('ws://example.com/')
WSS = parse_uri('wss://example.com/')

# --- URLs ---


@pytest.mark.parametrize(
    ('url', 'parts'),
    [
        ('http://p', ('http', 'p', 80, None, None)),
        ('p', ('http', 'p', 80, None, None)),
        ('p:3128', ('http', 'p', 3128, None, None)),
        ('P:3128/', ('http', 'p', 3128, None, None)),
        ('HTTP://p:/', ('http', 'p', 80, None, None)),
        ('https://p', ('https', 'p', 443, None, None)),
        ('socks5://p', ('socks5', 'p', 1080, None, None)),
        ('socks5h://p', ('socks5h', 'p', 1080, None, None)),
        ('socks://p:1', ('socks5h', 'p', 1, None, None)),
        ('http://[::1]:8', ('http', '::1', 8, None, None)),
        ('[::1]:8', ('http', '::1', 8, None, None)),
        ('u:p%40%2F@h:1', ('http', 'h', 1, 'u', 'p@/')),
        ('https://u@h', ('https', 'h', 443, 'u', '')),
        (
            'http://bücher.example',
            ('http', 'xn--bcher-kva.example', 80, None, None),
        ),
    ],
)
def test_urls(
    url: str, parts: tuple[str, str, int, str | None, str | None]
) -> None:
    assert parse_proxy(url).as_tuple() == parts


@pytest.mark.parametrize(
    ('url', 'why'),
    [
        ('', 'names no host'),
        ('http://', 'names no host'),
        ('ftp://p', 'expected http://'),
        ('socks4://p', 'expected http://'),
        ('ws://p', 'expected http://'),
        ('http://p/path', 'nothing may follow'),
        ('http://p?q', 'nothing may follow'),
        ('p#f', 'nothing may follow'),
        ('http://p:0', 'port'),
        ('http://p:x', 'port'),
        ('http://p\n', 'index 8'),
        ('http://a@b@c', "more than one '@'"),
        ('::1', 'colon'),
    ],
)
def test_refused_urls(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        twspy.connect('ws://127.0.0.1/', proxy=url)
    assert str(caught.value).startswith('proxy is ')
    assert caught.value.__context__ is None


@pytest.mark.parametrize('proxy', [5, b'http://p', ('http', 'p', 80)])
def test_type(proxy: object) -> None:
    with pytest.raises(TypeError, match='expected a URL'):
        find_proxy(WS, proxy, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'url',
    [
        'http://user:s3cret@p:x',
        'http://user:s3cret@p/path',
        'http://user:s3cret/@p',
        'user:s3cret@p:x',
        'ftp://user:s3cret@p',
        'socks5://user:s3cret%ff@p',
        'http://user:s3cret @p',
    ],
)
def test_errors_show_no_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_proxy(WS, url, {})
    assert 's3cret' not in str(caught.value)
    with pytest.raises(ValueError, match='HTTP_PROXY is ') as caught:
        find_proxy(WS, True, {'HTTP_PROXY': url})
    assert 's3cret' not in str(caught.value)


def test_repr_and_str_show_no_password() -> None:
    proxy = parse_proxy('https://user:s3cret@p')
    assert repr(proxy) == "Proxy(scheme='https', host='p', port=443)"
    assert str(proxy) == 'https://p:443'
    assert str(parse_proxy('[::1]')) == 'http://[::1]:80'


# --- the environment ---


def found(environ: dict[str, str], secure: bool = False) -> str | None:
    proxy = find_proxy(WSS if secure else WS, True, environ)
    return None if proxy is None else proxy.host


@pytest.mark.parametrize(
    ('environ', 'ws', 'wss'),
    [
        ({}, None, None),
        ({'http_proxy': 'a'}, 'a', None),
        ({'https_proxy': 'a'}, None, 'a'),
        ({'all_proxy': 'a'}, 'a', 'a'),
        ({'HTTP_PROXY': 'a', 'HTTPS_PROXY': 'b'}, 'a', 'b'),
        ({'ALL_PROXY': 'a'}, 'a', 'a'),
        ({'http_proxy': 'a', 'all_proxy': 'b'}, 'a', 'b'),
        ({'http_proxy': 'a', 'HTTP_PROXY': 'b'}, 'a', None),
        ({'all_proxy': 'a', 'HTTPS_PROXY': 'b'}, 'a', 'b'),
        # Empty is none, and hides the one in upper case.
        ({'http_proxy': '', 'HTTP_PROXY': 'b'}, None, None),
        ({'http_proxy': ' ', 'all_proxy': 'b'}, 'b', 'b'),
        # A CGI program: HTTP_PROXY is what the client said.
        ({'HTTP_PROXY': 'a', 'REQUEST_METHOD': 'GET'}, None, None),
        ({'http_proxy': 'a', 'REQUEST_METHOD': 'GET'}, 'a', None),
        ({'HTTPS_PROXY': 'a', 'REQUEST_METHOD': 'GET'}, None, 'a'),
        ({'ALL_PROXY': 'a', 'REQUEST_METHOD': 'GET'}, 'a', 'a'),
        ({'ws_proxy': 'a', 'wss_proxy': 'a', 'ftp_proxy': 'a'}, None, None),
        ({'all_proxy': 'a', 'no_proxy': 'example.com'}, None, None),
        ({'all_proxy': 'a', 'NO_PROXY': 'example.com'}, None, None),
        ({'all_proxy': 'a', 'no_proxy': '', 'NO_PROXY': '*'}, 'a', 'a'),
        ({'all_proxy': 'a', 'no_proxy': 'example.com:80'}, None, 'a'),
    ],
)
def test_environment(
    environ: dict[str, str], ws: str | None, wss: str | None
) -> None:
    assert (found(environ), found(environ, secure=True)) == (ws, wss)


def test_what_is_given_counts_more() -> None:
    environ = {'all_proxy': 'a', 'no_proxy': '*'}
    assert find_proxy(WS, 'b:1', environ) == Proxy('http', 'b', 1)
    environ = {'all_proxy': 'a'}
    assert find_proxy(WS, None, environ) is None
    assert find_proxy(WS, False, environ) is None


def test_of_hosts_that_need_none_the_proxy_is_not_read() -> None:
    environ = {'all_proxy': 'no proxy at all', 'no_proxy': 'example.com'}
    assert find_proxy(WS, True, environ) is None
    environ['no_proxy'] = 'example.org'
    with pytest.raises(ValueError, match='all_proxy'):
        find_proxy(WS, True, environ)


def test_connect_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ('all_proxy', 'no_proxy', 'NO_PROXY', 'http_proxy'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('http_proxy', 'junk://')
    with pytest.raises(ValueError, match='http_proxy is'):
        twspy.connect('ws://127.0.0.1:1/')
    with pytest.raises(ConnectionRefusedError):
        twspy.connect('ws://127.0.0.1:1/', proxy=None)
    monkeypatch.setenv('no_proxy', '127.0.0.0/8')
    with pytest.raises(ConnectionRefusedError):
        twspy.connect('ws://127.0.0.1:1/')


# --- no_proxy ---


@pytest.mark.parametrize(
    ('no_proxy', 'host', 'expected'),
    [
        ('', 'example.com', False),
        (' , ,', 'example.com', False),
        ('*', 'example.com', True),
        ('a,*', 'example.com', True),
        ('example.com', 'example.com', True),
        ('EXAMPLE.com', 'example.com', True),
        ('example.com', 'www.example.com', True),
        ('.example.com', 'www.example.com', True),
        ('.example.com', 'example.com', True),
        ('*.example.com', 'www.example.com', True),
        ('example.com.', 'example.com', True),
        ('example.com', 'example.com.', True),
        ('example.com', 'badexample.com', False),
        ('example.com', 'example.com.evil', False),
        ('example.com', 'com', False),
        ('com', 'example.com', True),
        ('a, example.com ,b', 'example.com', True),
        ('a example.com b', 'example.com', True),
        ('bücher.example', 'xn--bcher-kva.example', True),
        ('.bücher.example', 'www.xn--bcher-kva.example', True),
        ('\udcff..', 'example.com', False),
        ('localhost', 'localhost', True),
        ('', 'localhost', False),
        ('localhost', '127.0.0.1', False),
        ('127.0.0.1', '127.0.0.1', True),
        ('127.0.0.1', '127.0.0.2', False),
        ('127.0.0.0/8', '127.9.9.9', True),
        ('127.0.0.0/8', '128.0.0.1', False),
        ('10.1.2.3/8', '10.9.9.9', True),
        ('10.0.0.0/99', '10.0.0.1', False),
        ('0.0.1', '127.0.0.1', False),
        ('.1', '127.0.0.1', False),
        ('1', '127.0.0.1', False),
        ('127.0.0.1', 'a.127.0.0.1.example', False),
        ('::1', '::1', True),
        ('[::1]', '::1', True),
        ('0:0:0:0:0:0:0:1', '::1', True),
        ('fe80::/10', 'fe80::1%eth0', True),
        ('fe80::/10', '::1', False),
        ('::1', '127.0.0.1', False),
        ('10.0.0.0/8', '::1', False),
        ('example.com:8000', 'example.com', True),
        ('example.com:8001', 'example.com', False),
        ('.example.com:8000', 'www.example.com', True),
        ('127.0.0.1:8000', '127.0.0.1', True),
        ('127.0.0.1:8001', '127.0.0.1', False),
        ('127.0.0.0/8:8000', '127.0.0.1', True),
        ('[::1]:8000', '::1', True),
        ('[::1]:8001', '::1', False),
        ('*:8000', 'example.com', False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, expected: bool) -> None:
    assert is_exempt(host, 8000, no_proxy) is expected
