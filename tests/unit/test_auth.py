"""BasicAuth, DigestAuth and HA1: what they take, and what they say of a
plain request."""

from __future__ import annotations

import copy
import gc
import hashlib
import inspect
import logging
import pickle
import re
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from credentials import basic, challenges, digest

import twspy
from twspy import HA1, BasicAuth, DigestAuth, Request, Response

SECRET = 'open sesame'
ROOT = Path(__file__).resolve().parents[2]


def check(username: str, password: str) -> bool:
    return (username, password) == ('Aladdin', SECRET)


def password_of(username: str) -> str | None:
    return {'Aladdin': SECRET, 'Jäsøn Doe': 'Secret, or not?'}.get(username)


def request(
    authorization: str | bytes | None = None,
    target: str = '/',
    method: str = 'GET',
) -> Request:
    if isinstance(authorization, str):
        authorization = authorization.encode()
    fields = [('Host', 'localhost')]
    if authorization is not None:
        fields.append(('authorization', authorization.decode('latin-1')))
    return Request(method, target, fields)


def refused(answer: str | Response, status: int = 401) -> Response:
    assert isinstance(answer, Response), answer
    assert answer.status == status
    assert SECRET.encode() not in answer.body
    has_challenge = 'WWW-Authenticate' in answer.headers
    assert has_challenge == (status == 401)
    return answer


def challenge_of(
    auth: DigestAuth, algorithm: str = 'SHA-256'
) -> dict[str, str]:
    answer = refused(auth.authenticate(request()))
    return challenges(answer.headers.get_all('WWW-Authenticate'))[algorithm]


# --- HA1 ---


def test_ha1_is_the_hash_of_the_rfc() -> None:
    # RFC 7616 section 3.9.1, as far as it tells.
    for algorithm, expected in (
        ('MD5', '3d78807defe7de2157e2b0b6573a855f'),
        (
            'SHA-256',
            '7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232',
        ),
    ):
        ha1 = HA1.of(
            'Mufasa',
            'http-auth@example.org',
            'Circle of Life',
            algorithm,  # type: ignore[arg-type]
        )
        assert (ha1.hex, ha1.algorithm) == (expected, algorithm)
        assert HA1(expected.upper(), ha1.algorithm) == ha1


def test_ha1_is_of_the_composed_form() -> None:
    one = HA1.of('J\u00e4n', 'r', '\u00e9')
    assert one == HA1.of('Ja\u0308n', 'r', 'e\u0301')
    data = 'J\u00e4n:r:\u00e9'.encode()
    assert one.hex == hashlib.sha256(data).hexdigest()


def test_ha1_is_a_value() -> None:
    one = HA1.of('a', 'b', 'c')
    assert one == HA1(one.hex)
    assert hash(one) == hash(HA1(one.hex))
    assert one != HA1.of('a', 'b', 'd')
    assert one != one.hex
    assert HA1.of('a', 'b', 'c', 'MD5').hex not in one.hex
    assert one == copy.copy(one) == pickle.loads(pickle.dumps(one))
    with pytest.raises(AttributeError):
        one.hex = '0' * 64  # type: ignore[misc]
    assert repr(one) == '<HA1 SHA-256>'


@pytest.mark.parametrize(
    ('hex', 'algorithm', 'error', 'text'),
    [
        ('0' * 63, 'SHA-256', ValueError, 'got a str of length 63'),
        ('0' * 64, 'MD5', ValueError, '32 hexadecimal digits for MD5'),
        ('g' * 32, 'MD5', ValueError, 'got a str of length 32'),
        ('\u0660' * 32, 'MD5', ValueError, 'got a str of length 32'),
        ('0' * 31 + '\n', 'MD5', ValueError, 'got a str of length 32'),
        (b'0' * 32, 'MD5', TypeError, 'must be a str, got bytes'),
        ('0' * 32, 'md5', ValueError, "got 'md5'"),
        ('0' * 32, 'SHA-512', ValueError, "'SHA-256' or 'MD5'"),
        (SECRET, 'SHA-256', ValueError, 'hexadecimal'),
    ],
)
def test_ha1_is_checked(
    hex: Any, algorithm: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        HA1(hex, algorithm)
    assert SECRET not in str(caught.value)


# --- what the constructors take ---


def test_signatures() -> None:
    assert str(inspect.signature(BasicAuth)).startswith('(check: ')
    parameters = inspect.signature(DigestAuth).parameters
    assert list(parameters) == [
        'password_of',
        'realm',
        'algorithms',
        'nonce_lifetime',
    ]
    assert parameters['realm'].default == 'twspy'
    assert parameters['algorithms'].default == ('SHA-256', 'MD5')
    assert parameters['nonce_lifetime'].default == 300.0
    assert not isinstance(BasicAuth(check), DigestAuth)


@pytest.mark.parametrize(
    ('make', 'error', 'text'),
    [
        (
            lambda: BasicAuth(1),  # type: ignore[arg-type]
            TypeError,
            'check is int, expected a callable check(username, password)',
        ),
        (
            lambda: DigestAuth({}),  # type: ignore[arg-type]
            TypeError,
            'password_of is dict, expected a callable password_of(username)',
        ),
        (
            lambda: BasicAuth(check, 1),  # type: ignore[arg-type]
            TypeError,
            'realm is int, expected str',
        ),
        (lambda: BasicAuth(check, 'a"b'), ValueError, "realm is 'a\"b'"),
        (lambda: BasicAuth(check, 'a\\b'), ValueError, 'printable ASCII'),
        (lambda: BasicAuth(check, 'a\nb'), ValueError, r"realm is 'a\nb'"),
        (lambda: DigestAuth(password_of, 'ä'), ValueError, "realm is 'ä'"),
        (
            lambda: DigestAuth(password_of, algorithms='MD5'),
            TypeError,
            "algorithms is the str 'MD5', expected a tuple",
        ),
        (
            lambda: DigestAuth(password_of, algorithms=()),
            ValueError,
            'algorithms is empty',
        ),
        (
            lambda: DigestAuth(
                password_of,
                algorithms=['SHA-1'],  # type: ignore[list-item]
            ),
            ValueError,
            "algorithms holds 'SHA-1', expected 'SHA-256' or 'MD5'",
        ),
        (
            lambda: DigestAuth(
                password_of,
                algorithms=[5],  # type: ignore[list-item]
            ),
            ValueError,
            'algorithms holds 5',
        ),
        (
            lambda: DigestAuth(
                password_of,
                algorithms=['MD5', 'SHA-256', 'MD5'],
            ),
            ValueError,
            "algorithms holds 'MD5' twice",
        ),
        (
            lambda: DigestAuth(password_of, nonce_lifetime=0),
            ValueError,
            'nonce_lifetime is 0.0, expected seconds above 0',
        ),
        (
            lambda: DigestAuth(
                password_of,
                nonce_lifetime='5',  # type: ignore[arg-type]
            ),
            TypeError,
            'nonce_lifetime is str',
        ),
    ],
)
def test_wrong_arguments_are_named(
    make: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        make()


def test_repr_and_attributes() -> None:
    assert repr(BasicAuth(check, 'my place')) == "<BasicAuth realm='my place'>"
    auth = DigestAuth(password_of, algorithms=['MD5'])
    assert repr(auth) == "<DigestAuth realm='twspy' algorithms=('MD5',)>"
    assert (auth.realm, auth.algorithms) == ('twspy', ('MD5',))
    assert BasicAuth(check).realm == 'twspy'
    with pytest.raises(AttributeError):
        auth.realm = 'other'  # type: ignore[misc]


def test_init_is_called_once() -> None:
    auth = BasicAuth(check)
    with pytest.raises(RuntimeError, match='was called before'):
        auth.__init__(check)  # type: ignore[misc]

    class Forgetful(BasicAuth):
        def __init__(self) -> None:
            pass

    forgetful = Forgetful()
    assert forgetful.realm is None
    with pytest.raises(RuntimeError, match=r'Forgetful.__init__\(\) was not'):
        forgetful.authenticate(request(basic('Aladdin', SECRET)))


def test_what_asks_may_be_part_of_a_cycle() -> None:
    class Users:
        def __init__(self) -> None:
            self.auth = BasicAuth(self.check)

        def check(self, username: str, password: str) -> bool:
            return False

    users = Users()
    gone = weakref.ref(users)
    del users
    gc.collect()
    assert gone() is None


# --- Basic ---


def test_basic_challenge() -> None:
    answer = refused(BasicAuth(check, 'my place').authenticate(request()))
    assert answer.headers['WWW-Authenticate'] == (
        'Basic realm="my place", charset="UTF-8"'
    )
    assert b'no Authorization field' in answer.body


def test_basic_credentials() -> None:
    auth = BasicAuth(check)
    assert auth.authenticate(request(basic('Aladdin', SECRET))) == 'Aladdin'
    lower = basic('Aladdin', SECRET).replace('Basic', 'bASIC  ')
    assert auth.authenticate(request(lower)) == 'Aladdin'
    for user, password in (
        ('Aladdin', 'open'),
        ('Aladdin', ''),
        ('', SECRET),
        ('aladdin', SECRET),
        ('', ''),
    ):
        answer = refused(auth.authenticate(request(basic(user, password))))
        assert answer.body == b'wrong user name or password\n'


def test_basic_check_gets_what_was_sent() -> None:
    seen: list[tuple[str, str]] = []

    def note(username: str, password: str) -> int:
        seen.append((username, password))
        return len(seen) % 2

    auth = BasicAuth(note)
    pairs = [('Jäsøn 🙂', 'p:ä:'), ('', ':'), ('a', '')]
    outcomes = [auth.authenticate(request(basic(*pair))) for pair in pairs]
    assert seen == pairs
    assert outcomes[0] == 'Jäsøn 🙂'
    refused(outcomes[1])
    assert outcomes[2] == 'a'


JUNK = {
    'empty': ('', 400),
    'no_scheme': ('=', 400),
    'no_token': ('"Basic" YTpi', 400),
    'list': ('Basic YTpi, Basic YTpi', 400),
    'broken_digest': ('Digest username="a', 400),
    'twice_the_same': ('Digest realm=a, realm=b', 400),
    'not_base64': ('Basic YTpi!', 400),
    'scheme_alone': ('Basic', 401),
    'parameters': ('Basic user=a, password=b', 401),
    'other_scheme': ('Bearer YTpi', 401),
    'short': ('Basic YTp', 401),
    'two_forms': ('Basic YTp=', 401),
    'url_alphabet': ('Basic YT-_', 401),
    'no_colon': ('Basic YWJj', 401),
    'line_break': ('Basic YTpiCg==', 401),
    'nul': ('Basic AGE6Yg==', 401),
    'latin_1': ('Basic SuRzOng=', 401),
}


@pytest.mark.parametrize('junk', JUNK)
def test_basic_junk(junk: str) -> None:
    """RFC 9110: what is no credentials is a bad request (15.5.1), what is
    not acceptable is asked for anew (15.5.2)."""
    value, status = JUNK[junk]

    def fail(username: str, password: str) -> bool:
        raise AssertionError('asked for junk')

    refused(BasicAuth(fail).authenticate(request(value)), status)


def test_several_fields_are_a_bad_request() -> None:
    fields = [('Authorization', basic('Aladdin', SECRET))] * 2
    refused(BasicAuth(check).authenticate(Request('GET', '/', fields)), 400)


def test_what_check_raises_is_raised() -> None:
    def fail(username: str, password: str) -> bool:
        raise LookupError(username)

    class Odd:
        def __bool__(self) -> bool:
            raise ArithmeticError

    with pytest.raises(LookupError, match='Aladdin'):
        BasicAuth(fail).authenticate(request(basic('Aladdin', SECRET)))
    with pytest.raises(ArithmeticError):
        BasicAuth(lambda u, p: Odd()).authenticate(
            request(basic('Aladdin', SECRET))
        )


def test_what_is_no_request() -> None:
    with pytest.raises(AttributeError):
        BasicAuth(check).authenticate(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='method is int'):
        BasicAuth(check).authenticate(Request(1, '/'))  # type: ignore
    with pytest.raises(UnicodeEncodeError):
        BasicAuth(check).authenticate(Request('GET', '/\u20ac'))


# --- Digest ---


def test_digest_challenges() -> None:
    auth = DigestAuth(password_of, 'my place')
    answer = refused(auth.authenticate(request()))
    values = answer.headers.get_all('WWW-Authenticate')
    assert [re.sub('nonce="[0-9a-f]{64}"', 'N', v) for v in values] == [
        'Digest realm="my place", qop="auth", algorithm=SHA-256, N, '
        'charset=UTF-8',
        'Digest realm="my place", qop="auth", algorithm=MD5, N, charset=UTF-8',
    ]
    assert len({challenge_of(auth)['nonce'] for _ in range(50)}) == 50
    auth = DigestAuth(password_of, algorithms=['MD5'])
    answer = refused(auth.authenticate(request()))
    assert list(challenges(answer.headers.get_all('www-authenticate'))) == [
        'MD5'
    ]


@pytest.mark.parametrize('algorithm', ['SHA-256', 'MD5'])
def test_digest_credentials(algorithm: str) -> None:
    auth = DigestAuth(password_of)
    challenge = challenge_of(auth, algorithm)
    good = digest(challenge, 'Aladdin', SECRET, uri='/x?y=1')
    assert auth.authenticate(request(good, '/x?y=1')) == 'Aladdin'
    for count, (user, password) in enumerate(
        [('Aladdin', 'open'), ('aladdin', SECRET), ('nobody', ''), ('', '')],
        2,
    ):
        value = digest(challenge, user, password, nc=f'{count:08x}')
        answer = refused(auth.authenticate(request(value)))
        assert answer.body == b'wrong user name or password\n'
        assert 'stale' not in answer.headers['WWW-Authenticate']


@pytest.mark.parametrize('algorithm', ['SHA-256', 'MD5'])
def test_digest_by_hash(algorithm: Any) -> None:
    hashes = {'Aladdin': HA1.of('Aladdin', 'r', SECRET, algorithm)}
    auth = DigestAuth(hashes.get, 'r', algorithms=[algorithm])
    for password, expected in ((SECRET, 'Aladdin'), ('wrong', None)):
        challenge = challenge_of(auth, algorithm)
        answer = auth.authenticate(
            request(digest(challenge, 'Aladdin', password))
        )
        if expected is None:
            refused(answer)
        else:
            assert answer == expected


def test_hash_for_another_algorithm_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = DigestAuth(lambda name: HA1.of(name, 'twspy', SECRET, 'MD5'))
    challenge = challenge_of(auth)
    with caplog.at_level(logging.DEBUG, 'twspy'):
        value = digest(challenge, 'Aladdin', SECRET)
        refused(auth.authenticate(request(value)))
    assert 'another algorithm than SHA-256' in caplog.text
    value = digest(challenge_of(auth, 'MD5'), 'Aladdin', SECRET)
    assert auth.authenticate(request(value)) == 'Aladdin'


def test_digest_names_beyond_ascii() -> None:
    auth = DigestAuth(password_of)
    name, word = 'Jäsøn Doe', 'Secret, or not?'
    plain = digest(challenge_of(auth), name, word)
    assert auth.authenticate(request(plain)) == name
    extended = digest(
        challenge_of(auth),
        name,
        word,
        change={
            'username': None,
            'username*': "UTF-8''J%C3%A4s%C3%B8n%20Doe",
        },
    )
    assert 'username*=UTF-8' in extended
    assert auth.authenticate(request(extended)) == name
    latin = digest(challenge_of(auth), name, word).encode('latin-1')
    refused(auth.authenticate(request(latin)), 400)


def test_digest_password_in_its_composed_form() -> None:
    auth = DigestAuth(lambda name: 'e\u0301')
    value = digest(challenge_of(auth), 'a', '\u00e9')
    assert auth.authenticate(request(value)) == 'a'


def test_digest_is_for_one_request() -> None:
    auth = DigestAuth(password_of)
    value = digest(challenge_of(auth), 'Aladdin', SECRET, uri='/a')
    refused(auth.authenticate(request(value, '/b')), 400)
    refused(auth.authenticate(request(value, '/a', 'HEAD')))
    assert auth.authenticate(request(value, '/a')) == 'Aladdin'
    value = digest(
        challenge_of(auth), 'Aladdin', SECRET, uri='/a', method='HEAD'
    )
    assert auth.authenticate(request(value, '/a', 'HEAD')) == 'Aladdin'


DIGEST_JUNK: dict[str, tuple[dict[str, str | None], int]] = {
    'no_username': ({'username': None}, 400),
    'no_realm': ({'realm': None}, 400),
    'no_nonce': ({'nonce': None}, 400),
    'no_uri': ({'uri': None}, 400),
    'no_qop': ({'qop': None}, 400),
    'no_nc': ({'nc': None}, 400),
    'no_cnonce': ({'cnonce': None}, 400),
    'no_response': ({'response': None}, 400),
    'auth_int': ({'qop': 'auth-int'}, 400),
    'nc_of_seven': ({'nc': '0000001'}, 400),
    'nc_0': ({'nc': '00000000'}, 400),
    'userhash': ({'userhash': 'true'}, 400),
    'control': ({'username': '"a\tb"'}, 400),
    'other_realm': ({'realm': '"other"'}, 401),
    'sess': ({'algorithm': 'SHA-256-sess'}, 401),
    'short_response': ({'response': '"0"'}, 401),
    'another_count': ({'nc': '00000002'}, 401),
    'another_cnonce': ({'cnonce': '"0"'}, 401),
    'another_nonce': ({'nonce': '"' + '0' * 64 + '"'}, 401),
    'empty_response': ({'response': '""'}, 401),
}


@pytest.mark.parametrize('junk', DIGEST_JUNK)
def test_digest_junk(junk: str) -> None:
    change, status = DIGEST_JUNK[junk]
    auth = DigestAuth(password_of)
    challenge = challenge_of(auth)
    value = digest(challenge, 'Aladdin', SECRET)
    junk_value = digest(challenge, 'Aladdin', SECRET, change=change)
    refused(auth.authenticate(request(junk_value)), status)
    # It has not used up the nonce.
    assert auth.authenticate(request(value)) == 'Aladdin'


@pytest.mark.parametrize('junk', JUNK)
def test_digest_gets_junk_of_other_schemes(junk: str) -> None:
    value, status = JUNK[junk]
    auth = DigestAuth(password_of)
    refused(auth.authenticate(request(value)), status)
    refused(auth.authenticate(request(basic('Aladdin', SECRET))))
    refused(auth.authenticate(request('Digest')), 400)


def test_algorithm_that_was_not_offered() -> None:
    auth = DigestAuth(password_of, algorithms=['SHA-256'])
    challenge = challenge_of(auth) | {'algorithm': 'MD5'}
    value = digest(challenge, 'Aladdin', SECRET)
    refused(auth.authenticate(request(value)))


def is_stale(answer: str | Response) -> bool:
    fields = refused(answer).headers.get_all('WWW-Authenticate')
    stale = [value.endswith(', stale=true') for value in fields]
    assert len(set(stale)) == 1
    return stale[0]


def test_credentials_are_good_once() -> None:
    auth = DigestAuth(password_of)
    challenge = challenge_of(auth)
    value = digest(challenge, 'Aladdin', SECRET)
    assert auth.authenticate(request(value)) == 'Aladdin'
    assert is_stale(auth.authenticate(request(value)))
    # The same nonce does for another count, in whatever order they come.
    for nc in ('00000003', '00000002'):
        other = digest(challenge, 'Aladdin', SECRET, nc=nc)
        assert auth.authenticate(request(other)) == 'Aladdin'
        assert is_stale(auth.authenticate(request(other)))
    wrong = digest(challenge, 'Aladdin', 'wrong')
    assert not is_stale(auth.authenticate(request(wrong)))


def test_old_nonce_is_stale() -> None:
    auth = DigestAuth(password_of, nonce_lifetime=0.001)
    challenge = challenge_of(auth)
    value = digest(challenge, 'Aladdin', SECRET)
    time.sleep(0.01)  # its lifetime, many times over
    answer = auth.authenticate(request(value))
    assert is_stale(answer)
    wrong = digest(challenge, 'Aladdin', 'wrong')
    assert not is_stale(auth.authenticate(request(wrong)))


def test_nonces_may_live_for_ever() -> None:
    auth = DigestAuth(password_of, nonce_lifetime=None)
    value = digest(challenge_of(auth), 'Aladdin', SECRET)
    assert auth.authenticate(request(value)) == 'Aladdin'
    assert is_stale(auth.authenticate(request(value)))


def test_nonce_of_another_is_stale() -> None:
    """A server that was started anew asks again; the user need not know."""
    old, new = DigestAuth(password_of), DigestAuth(password_of)
    value = digest(challenge_of(old), 'Aladdin', SECRET)
    answer = new.authenticate(request(value))
    assert is_stale(answer)
    assert isinstance(answer, Response)
    fresh = challenges(answer.headers.get_all('WWW-Authenticate'))['MD5']
    value = digest(fresh, 'Aladdin', SECRET)
    assert new.authenticate(request(value)) == 'Aladdin'


@pytest.mark.parametrize(
    ('told', 'name'), [(b'word', 'bytes'), (True, 'bool'), (1, 'int')]
)
def test_password_of_another_type(told: Any, name: str) -> None:
    auth = DigestAuth(lambda username: told)
    value = digest(challenge_of(auth), 'Aladdin', SECRET)
    with pytest.raises(
        TypeError,
        match=rf'password_of\(\) returned {name}, expected a str, an HA1',
    ):
        auth.authenticate(request(value))


def test_password_that_utf8_can_not_encode() -> None:
    auth = DigestAuth(lambda username: SECRET + '\udc80')
    value = digest(challenge_of(auth), 'Aladdin', SECRET)
    with pytest.raises(ValueError, match='lone surrogate') as caught:
        auth.authenticate(request(value))
    assert SECRET not in repr(caught.value)
    assert caught.value.__context__ is None


def test_what_password_of_raises_is_raised() -> None:
    def fail(username: str) -> str:
        raise LookupError(username)

    auth = DigestAuth(fail)
    value = digest(challenge_of(auth), 'Aladdin', SECRET)
    with pytest.raises(LookupError, match='Aladdin'):
        auth.authenticate(request(value))


def test_broken_ha1_is_an_error() -> None:
    ha1 = HA1('0' * 64)
    ha1._hex = 'junk'
    auth = DigestAuth(lambda username: ha1)
    value = digest(challenge_of(auth), 'Aladdin', SECRET)
    with pytest.raises(ValueError, match='without a valid hash') as caught:
        auth.authenticate(request(value))
    assert 'junk' not in str(caught.value)


def test_secrets_are_compared_in_constant_time() -> None:
    """What proves a password goes by way of the one function that does."""
    for name, function in (
        ('digest_auth', 'tws_digest_verify'),
        ('digest_nonces', 'tws_nonces_use'),
    ):
        text = (ROOT / 'csrc' / 'protocol' / f'{name}.c').read_text()
        body = text[text.index(f'\n{function}(') :].split('\n}\n')[0]
        assert 'tws_equal_constant_time(' in body
        assert 'memcmp(' not in body
        assert 'tws_span_equal(' not in body
    text = (ROOT / 'csrc' / 'protocol' / 'digest.c').read_text()
    body = text[text.index('\ntws_equal_constant_time(') :].split('\n}\n')[0]
    assert 'CRYPTO_memcmp(' in body


# --- a server's option ---


@pytest.mark.parametrize(
    ('auth', 'text'),
    [
        (('user', 'password'), 'auth is a tuple, which is what a client'),
        (check, 'auth is function, expected BasicAuth(...) or DigestAuth('),
        (BasicAuth, 'auth is type, expected'),
        (SECRET, 'auth is str, expected'),
    ],
)
def test_server_takes_no_other_auth(auth: Any, text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)) as caught:
        twspy.Server(('127.0.0.1', 0), auth=auth)
    assert SECRET not in str(caught.value)


def test_server_has_its_auth() -> None:
    auth = BasicAuth(check)
    server = twspy.Server(('127.0.0.1', 0), auth=auth)
    assert server.auth is auth
    server.stop()
    server = twspy.Server(('127.0.0.1', 0), auth=None)
    assert server.auth is None
    server.stop()


def test_server_and_its_check_may_be_a_cycle() -> None:
    class Server(twspy.Server):
        def __init__(self) -> None:
            super().__init__(('127.0.0.1', 0), auth=BasicAuth(self.check))

        def check(self, username: str, password: str) -> bool:
            return False

    server = Server()
    server.stop()
    gone = weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None
