"""URLs: whatever a program is given, it gets parts that a request can carry,
or a ValueError without a secret (RFC 6455 section 3, RFC 3986)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

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
    """Whatever stands around a password, and in it."""
    secret = f'<{secret}>'
    url = f'ws://user:{secret}@host{behind}'
    shown = [hide_secrets(url)]
    try:
        shown.append(str(parse_uri(url)))
    except ValueError as error:
        shown.append(str(error))
    assert all(secret not in text for text in shown), shown
