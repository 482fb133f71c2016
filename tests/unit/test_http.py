"""`Headers`, `Request` and `Response`."""

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

import twspy
from twspy import Headers, Request, Response

PAIRS = [
    ('Host', 'example.org'),
    ('Set-Cookie', 'a=1'),
    ('set-cookie', 'b=2'),
    ('X-Empty', ''),
]

# --- Headers ---


def test_names_compare_without_case() -> None:
    headers = Headers(PAIRS)
    for name in 'Host', 'host', 'HOST':
        assert headers[name] == 'example.org'
        assert headers.get(name) == 'example.org'
        assert headers.get_all(name) == ['example.org']
        assert name in headers


def test_a_name_that_comes_twice() -> None:
    headers = Headers(PAIRS)
    assert headers['Set-Cookie'] == 'a=1'
    assert headers.get_all('SET-COOKIE') == ['a=1', 'b=2']
    # What is handed out does not lead back.
    headers.get_all('Set-Cookie').clear()
    assert headers.get_all('Set-Cookie') == ['a=1', 'b=2']


def test_a_name_that_is_missing() -> None:
    headers = Headers(PAIRS)
    with pytest.raises(KeyError, match='X-Missing'):
        headers['X-Missing']
    with pytest.raises(KeyError):
        headers[5]  # type: ignore[index]
    assert headers.get('X-Missing') is None
    assert headers.get('X-Missing', 'none') == 'none'
    assert headers.get_all('X-Missing') == []
    assert 'X-Missing' not in headers
    assert 5 not in headers


def test_names_and_fields() -> None:
    headers = Headers(PAIRS)
    assert isinstance(headers, Mapping)
    assert list(headers) == list(headers.keys())
    assert list(headers) == ['Host', 'Set-Cookie', 'X-Empty']
    assert len(headers) == 3
    assert list(headers.items()) == PAIRS
    assert len(headers.items()) == 4
    assert ('set-cookie', 'b=2') in headers.items()
    assert ('set-cookie', 'c=3') not in headers.items()
    assert list(headers.values()) == ['example.org', 'a=1', 'b=2', '']
    assert len(headers.values()) == 4
    assert 'b=2' in headers.values()
    assert 'c=3' not in headers.values()


def test_what_headers_are_made_of() -> None:
    assert len(Headers()) == 0
    assert not Headers()
    assert Headers({'A': 'b'}) == Headers([('A', 'b')])
    assert list(Headers(Headers(PAIRS)).items()) == PAIRS
    assert list(Headers(iter(PAIRS)).items()) == PAIRS
    assert Headers([('A', ' \t b c \t')])['A'] == 'b c'
    assert Headers([('A', 'b\tc \xe9')])['A'] == 'b\tc \xe9'


@pytest.mark.parametrize(
    'name',
    [
        '',
        'a b',
        'a:',
        'a\r\nb',
        'a\n',
        ' a',
        'a\0',
        'é',
        'a/b',
        '"a"',
        'a\x7f',
    ],
)
def test_a_name_that_is_no_token(name: str) -> None:
    with pytest.raises(ValueError, match='not the name of a header field'):
        Headers([(name, 'value')])


@pytest.mark.parametrize(
    'value',
    ['a\r\nSet-Cookie: x', 'a\n', '\ra', 'a\rb', 'a\0b', '\x1f', '\x7f', '€'],
)
def test_a_value_that_would_break_the_head(value: str) -> None:
    with pytest.raises(ValueError, match='the value of X-A'):
        Headers([('X-A', value)])
    with pytest.raises(ValueError):
        Response(200, {'X-A': value})


@pytest.mark.parametrize('field', [('A', 5), (b'A', 'b'), ('A', None)])
def test_a_field_of_another_type(field: Any) -> None:
    with pytest.raises(TypeError, match='of type str'):
        Headers([field])


def test_headers_never_change() -> None:
    headers: Any = Headers(PAIRS)
    with pytest.raises(TypeError):
        headers['A'] = 'b'
    with pytest.raises(TypeError):
        del headers['Host']
    with pytest.raises(AttributeError):
        headers._pairs = ()
    with pytest.raises(AttributeError):
        headers.other = 1
    assert list(headers.items()) == PAIRS


def test_headers_equality() -> None:
    headers = Headers([('A', '1'), ('B', '2'), ('A', '3')])
    same = Headers([('b', '2'), ('a', '1'), ('a', '3')])
    assert headers == same
    assert hash(headers) == hash(same)
    assert headers != Headers([('A', '3'), ('B', '2'), ('A', '1')])
    assert headers != Headers([('A', '1'), ('B', '2')])
    assert headers != {'A': '1'}


def test_headers_repr_and_copies() -> None:
    headers = Headers(PAIRS)
    shown = [PAIRS[0], ('Set-Cookie', '***'), ('set-cookie', '***'), PAIRS[3]]
    assert repr(headers) == f'Headers({shown!r})'
    for again in (
        pickle.loads(pickle.dumps(headers)),
        copy.copy(headers),
        copy.deepcopy(headers),
    ):
        assert again == headers
        assert list(again.items()) == PAIRS


@pytest.mark.parametrize(
    'name', ['authorization', 'Proxy-Authorization', 'COOKIE', 'Set-Cookie']
)
def test_secrets_are_not_shown(name: str) -> None:
    assert repr(Headers({name: 's3cret'})) == f"Headers([({name!r}, '***')])"
    for value in ('s3cret\n', b's3cret', 's3cret\u4e16'):
        with pytest.raises((TypeError, ValueError)) as caught:
            Headers([(name, value)])  # type: ignore[list-item]
        assert 's3cret' not in str(caught.value)
    with pytest.raises(ValueError, match=r"carry: '\\n' at index 1"):
        Headers({name: 'a\nb'})


# --- Request ---


def test_request() -> None:
    request = Request('GET', '/chat?room=1', PAIRS, ('10.0.0.1', 4000))
    assert request.method == 'GET'
    assert request.target == '/chat?room=1'
    assert request.path == '/chat'
    assert request.query == 'room=1'
    assert request.headers['host'] == 'example.org'
    assert request.headers is request.headers
    assert request.remote_address == ('10.0.0.1', 4000)
    assert request.version == 'HTTP/1.1'
    assert repr(request) == "<Request GET '/chat?...'>"
    bare = Request('GET', '/')
    assert bare.headers == Headers()
    assert bare.remote_address is None
    headers = Headers(PAIRS)
    assert Request('GET', '/', headers).headers is headers


@pytest.mark.parametrize(
    ('target', 'path', 'query'),
    [
        ('/', '/', ''),
        ('/a%20b', '/a%20b', ''),
        ('/?', '/', ''),
        ('/a?b?c=/', '/a', 'b?c=/'),
        ('http://host/a?b', '/a', 'b'),
        ('http://host:80', '/', ''),
        ('http://host?b', '/', 'b'),
        ('/redirect?to=http://host/x', '/redirect', 'to=http://host/x'),
        ('/a//b://c', '/a//b://c', ''),
    ],
)
def test_request_target(target: str, path: str, query: str) -> None:
    request = Request('GET', target)
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize(
    'name',
    'method target headers remote_address version path query x'.split(),
)
def test_a_request_never_changes(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Request('GET', '/'), name, 'x')


# --- Response ---


def test_response() -> None:
    response = Response(404, [('X-A', 'b')], bytearray(b'gone'))
    assert response.status == 404
    assert response.phrase == 'Not Found'
    assert response.headers == Headers({'X-A': 'b'})
    assert response.body == b'gone'
    assert type(response.body) is bytes
    assert repr(response) == '<Response 404 Not Found, 4 bytes>'
    assert response.pack() == (
        b'HTTP/1.1 404 Not Found\r\n'
        b'X-A: b\r\n'
        b'Content-Length: 4\r\n'
        b'Connection: close\r\n'
        b'\r\n'
        b'gone'
    )
    head, _ = response.pack().split(b'\r\n\r\n')
    assert response.pack(head_only=True) == head + b'\r\n\r\n'


def test_response_of_text() -> None:
    response = Response(200, body='é')
    assert response.body == b'\xc3\xa9'
    assert response.headers['Content-Type'] == 'text/plain; charset=utf-8'
    response = Response(200, {'content-type': 'text/html'}, '<p>')
    assert response.headers.get_all('Content-Type') == ['text/html']
    assert 'Content-Type' not in Response(200, body=b'x').headers


def test_response_writes_its_own_framing() -> None:
    wrong = [
        ('content-length', '99'),
        ('Transfer-Encoding', 'chunked'),
        ('CONNECTION', 'keep-alive'),
        ('X-A', '\xe9'),
    ]
    assert Response(200, wrong, b'x').pack() == (
        b'HTTP/1.1 200 OK\r\n'
        b'X-A: \xe9\r\n'
        b'Content-Length: 1\r\n'
        b'Connection: close\r\n'
        b'\r\n'
        b'x'
    )


@pytest.mark.parametrize('status', [204, 304])
def test_response_without_content(status: int) -> None:
    wire = Response(status, body=b'left out').pack()
    assert b'Content-Length' not in wire
    assert wire.endswith(b'Connection: close\r\n\r\n')


def test_response_status() -> None:
    assert Response(299).phrase == 'Unknown'
    assert Response(299).pack().startswith(b'HTTP/1.1 299 Unknown\r\n')
    with pytest.raises(ValueError, match='200 or more'):
        Response(101).pack()
    for status in 99, 1000, -1:
        with pytest.raises(ValueError, match=f'got {status}'):
            Response(status)
    with pytest.raises(TypeError, match='got str'):
        Response('200')  # type: ignore[arg-type]


@pytest.mark.parametrize('body', [None, 5, ['x']])
def test_response_body_of_another_type(body: Any) -> None:
    with pytest.raises(TypeError, match='body must be str or'):
        Response(200, body=body)


@pytest.mark.parametrize('name', ['status', 'headers', 'body', 'phrase', 'x'])
def test_a_response_never_changes(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Response(200), name, 'x')


def test_response_equality() -> None:
    response = Response(200, {'A': 'b'}, b'c')
    assert response == Response(200, {'a': 'b'}, b'c')
    assert hash(response) == hash(Response(200, {'a': 'b'}, b'c'))
    assert response != Response(201, {'A': 'b'}, b'c')
    assert response != Response(200, {'A': 'c'}, b'c')
    assert response != Response(200, {'A': 'b'}, b'd')
    assert response != 200


def test_types_are_twspy_s_own() -> None:
    for kind in Headers, Request, Response:
        assert kind.__module__ == 'twspy'
        assert getattr(twspy, kind.__name__) is kind
        assert kind.__doc__
        assert not hasattr(kind.__new__(kind), '__dict__')


# --- in a debugger's view ---


def test_a_repr_is_bounded() -> None:
    headers = Headers([('Name', 'x' * 5000)] * 100)
    assert len(repr(headers)) < 5000
    assert repr(headers).endswith(' and 76 more')
    assert repr(Headers([('A', 'b')])) == "Headers([('A', 'b')])"
    assert repr(Headers([('A', 'x' * 101)])) == (
        f"Headers([('A', '{'x' * 100}...')])"
    )
    request = Request('G' * 200, '/' + 'x' * 5000 + '?token=s3cret')
    assert repr(request) == f"<Request {'G' * 100}... '/{'x' * 99}...?...'>"
