"""URLs: whatever a program is given, it gets parts that a request can carry,
or a ValueError without a secret (RFC 6455 section 3, RFC 3986)."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from twspy._proxies import is_exempt, parse_proxy
from twspy._redirects import resolve
from twspy.uri import hide_secrets, parse_uri

label = st.from_regex(r'[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?', fullmatch=True)
name = st.lists(label, min_size=1, max_size=4).map('.'.join)
address = st.ip_addresses().map(
    lambda ip: f'[{ip}]' if ip.version == 6 else str(ip)
)
port = st.one_of(st.none(), st.integers(1, 65535))
anything = st.text(max_size=20)
# What ends or divides the parts of a URL, more often than chance would.
telling = st.text(alphabet=':/?#[]@\\%. \t\r\n\x00ws1aé\ud800', max_size=16)

GOOD = re.compile(r'/[!-~]*')
GOOD_HOST = re.compile(r'[a-z0-9._-]+|[0-9a-f:.]+(%[A-Za-z0-9._~-]+)?')


@given(
    st.sampled_from(['ws', 'wss', 'WS', 'Wss']),
    st.one_of(name, address),
    port,
    st.one_of(st.none(), st.tuples(st.text(), st.text())),
    anything,
    anything,
)
def test_parts_come_back(
    scheme: str,
    host: str,
    number: int | None,
    userinfo: tuple[str, str] | None,
    path: str,
    query: str,
) -> None:
    """Everything but the host is percent-encoded by the test."""
    url = f'{scheme}://'
    if userinfo is not None:
        url += ':'.join(_quote(text) for text in userinfo) + '@'
    url += host if number is None else f'{host}:{number}'
    url += f'/{_quote(path)}?{_quote(query)}'
    try:
        uri = parse_uri(url)
    except ValueError as error:
        controls = userinfo is not None and any(
            not char.isprintable() for text in userinfo for char in text
        )
        number_like = host[0] != '[' and host.rpartition('.')[2].isdigit()
        xn = 'xn--' in host
        assert controls or number_like or xn or len(host) > 253, error
        return
    secure = scheme.lower() == 'wss'
    assert uri.secure == secure
    assert uri.port == (number or (443 if secure else 80))
    assert uri.auth == userinfo or userinfo == ('', '')
    target = urlsplit(uri.resource)
    assert unquote(target.path) == '/' + path
    assert unquote(target.query) == query
    if host[0] == '[':
        assert ip_address(uri.host) == ip_address(host.strip('[]'))
    else:
        assert uri.host == host
    check_parts(url)


def _quote(text: str) -> str:
    return quote(text, safe='', errors='surrogatepass')


@example('ws://a\r\nHost: b/')
@example('ws://[::1%25\r\n]/')
@example('ws://user:pa:ss@[::1]:65535/?\\')
@example('ws://127.1/')
@example('ws://%31/')
@given(
    st.one_of(
        anything,
        telling,
        telling.map(lambda rest: f'ws://{rest}'),
        st.tuples(telling, telling).map(lambda t: f'wss://a{t[0]}/{t[1]}'),
        telling.map(lambda rest: f'ws://[{rest}]/'),
    )
)
def test_any_text(url: str) -> None:
    check_parts(url)


def check_parts(url: str) -> None:
    """Nothing of a URL gets into a request that would change it."""
    try:
        uri = parse_uri(url)
    except ValueError as error:
        assert '\n' not in str(error)
        return
    assert GOOD.fullmatch(uri.resource)
    assert GOOD_HOST.fullmatch(uri.host)
    assert 1 <= uri.port <= 65535
    assert re.fullmatch('[!-~]+', uri.netloc)
    # What it says of itself is the same URL again, less the secrets.
    shown = str(uri)
    if uri.resource.find('?') < 0 and len(shown) < 200:
        again = parse_uri(shown)
        assert again.origin == uri.origin or '%' in uri.host
        assert again.resource == uri.resource


@given(telling, st.text('abcdXYZ/:@?#%', min_size=8, max_size=12), telling)
def test_no_password_is_shown(before: str, secret: str, behind: str) -> None:
    """Whatever stands around a password, and in it; nor a part of it."""
    secret = f'<{"<>".join(secret)}>'
    user = before.translate(dict.fromkeys(map(ord, '/?#\\')))  # ends the host
    url = f'ws://user{user}:{secret}@host{behind}'
    shown = [hide_secrets(url)]
    try:
        shown.append(str(parse_uri(url)))
    except ValueError as error:
        shown.append(str(error))
    assert not any(mark in text for text in shown for mark in '<>'), shown


# --- names that are not ASCII ---

foreign = st.text(
    alphabet='aZ09-._\xe4\xd6\xdf\u0131\u03c2\u4e16\u754c\u0430\u200d\uff0e'
    '\u3002\u0301\U0001f30d\xad\u05d0',
    min_size=1,
    max_size=12,
)


@given(st.one_of(foreign, st.text(min_size=1, max_size=8)))
def test_foreign_names(host: str) -> None:
    """What becomes of a name is a name in ASCII, and stays what it is."""
    try:
        uri = parse_uri(f'ws://{host}/')
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert GOOD_HOST.fullmatch(uri.host)
    assert len(uri.host) <= 254
    again = parse_uri(f'wss://{uri.netloc}/')
    assert again.host == uri.host
    if not host.isascii():
        # Not for something else by Python's codec, either.
        plain = re.split('[:/?]', host)[0].rpartition('@')[2]
        assert uri.host == plain.encode('idna').decode('ascii').lower()
        assert not set(plain) & set('\xdf\u03c2\u200c\u200d')


@given(
    st.one_of(st.integers(-1, 70_000).map(str), st.text('0123456789+- x:')),
)
def test_ports(text: str) -> None:
    try:
        uri = parse_uri(f'ws://host:{text}/')
    except ValueError:
        assert not (text.isdecimal() and 1 <= int(text) <= 65535) or (
            len(text) > 5
        )
        return
    assert uri.port == int(text or 80)
    assert text == '' or text.isdecimal()


@given(st.text('0123456789abcdefx.', min_size=1, max_size=16))
def test_what_looks_like_an_address(host: str) -> None:
    """It is one for everybody, or for nobody."""
    try:
        uri = parse_uri(f'ws://{host}/')
    except ValueError:
        return
    try:
        resolved = socket.inet_aton(uri.host.rstrip('.'))
    except OSError:
        return
    assert ip_address(uri.host).packed == resolved


# --- what else is a URL ---


@given(
    st.one_of(
        telling,
        telling.map(lambda rest: f'http://{rest}'),
        telling.map(lambda rest: f'socks5h://u:p@{rest}'),
        telling.map(lambda rest: f'{rest}.proxy:80'),
    )
)
def test_proxies(url: str) -> None:
    try:
        proxy = parse_proxy(url)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert proxy.scheme in ('http', 'https', 'socks5', 'socks5h')
    assert GOOD_HOST.fullmatch(proxy.host)
    assert 1 <= proxy.port <= 65535
    shown = str(proxy)
    assert re.fullmatch('[!-~]+', shown)
    if proxy.auth is not None:
        assert proxy.auth[1] not in shown or len(proxy.auth[1]) < 3
        assert not any(char < ' ' for part in proxy.auth for char in part)


@given(
    st.sampled_from(['ws://base/', 'wss://base:4/a/b?c', 'ws://[::1]/%20']),
    st.one_of(
        anything,
        telling,
        telling.map(lambda rest: f'//{rest}'),
        telling.map(lambda rest: f'https://{rest}'),
        telling.map(lambda rest: f'ws:{rest}'),
        telling.map(lambda rest: f'../.././/{rest}'),
    ),
)
def test_redirects(url: str, location: str) -> None:
    """Nobody is led from an encrypted connection, nor given credentials."""
    base = parse_uri(url)
    try:
        uri = resolve(base, location)
    except ValueError:
        return
    assert uri.auth is None
    assert uri.secure or not base.secure
    assert GOOD.fullmatch(uri.resource)
    assert GOOD_HOST.fullmatch(uri.host)
    if not re.match(r'[A-Za-z][A-Za-z0-9+.-]*:|//', location):
        assert uri.origin == base.origin


@given(
    st.one_of(name, st.ip_addresses().map(str)),
    st.integers(1, 65535),
    st.lists(st.one_of(telling, name, st.ip_addresses().map(str))),
)
def test_no_proxy(host: str, port: int, entries: list[str]) -> None:
    assert isinstance(is_exempt(host, port, ','.join(entries)), bool)
    bracketed = f'[{host}]' if ':' in host else host
    for named in (bracketed, f'{bracketed}:{port}', f'.{host}', '*'):
        if named[0] == '.' and (':' in host or host[-1].isdigit()):
            continue
        assert is_exempt(host, port, ','.join([*entries, named])), named
    if not any('*' in entry for entry in entries):
        assert not is_exempt('elsewhere.test', port, bracketed)
