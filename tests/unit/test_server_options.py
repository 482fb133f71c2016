"""What bounds a server: the values that are taken, and those refused."""

import inspect
import math
import sys
import time
from typing import Any

import pytest
from rawpeer import RawPeer, request

import twspy
from twspy import _twspy

HERE = ('127.0.0.1', 0)

DEFAULTS = {
    'max_size': 1 << 20,
    'open_timeout': 10.0,
    'close_timeout': 2.0,
    'max_head_size': 16384,
    'max_header_lines': 128,
    'max_clients': None,
    'max_threads': 1024,
    'max_half_open': None,
    'max_queue': 1 << 20,
    'low_water': None,
    'ping_interval': 20.0,
    'ping_timeout': 20.0,
    'idle_timeout': None,
    'send_timeout': 30.0,
}

# Name to the least value, and what else is said to be expected.
SIZES = {
    'max_size': (0, 'an int of at least 0 or None for no limit'),
    'max_head_size': (1, 'an int of at least 1'),
    'max_header_lines': (1, 'an int from 1 to 256'),
    'max_clients': (1, 'an int of at least 1 or None for no limit'),
    'max_threads': (1, 'an int of at least 1'),
    'max_half_open': (1, 'an int of at least 1 or None for no limit'),
    'max_queue': (1, 'an int of at least 1'),
    'low_water': (
        0,
        'an int from 0 to 1048575 or None for a quarter of max_queue',
    ),
}
MOST = dict.fromkeys(SIZES, sys.maxsize) | {
    'max_header_lines': 256,
    'low_water': (1 << 20) - 1,
}
OR_NONE = {name: text for name, (_, text) in SIZES.items() if 'None' in text}

# Name to whether 0 is a time.
TIMES = {
    'open_timeout': True,
    'close_timeout': True,
    'ping_interval': False,
    'ping_timeout': False,
    'idle_timeout': False,
    'send_timeout': True,
}


class Index:
    """What an int can be made of, as the numbers of array libraries."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Broken:
    def __index__(self) -> int:
        raise LookupError('no number today')

    def __float__(self) -> float:
        raise LookupError('no number today')


def make(**options: Any) -> None:
    """Make a server and end it; never started, it has no thread."""
    twspy.Server(HERE, **options).stop()


def refusal(error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        make(**options)
    assert caught.type is error
    return str(caught.value)


# --- what is there ---


def test_defaults() -> None:
    parameters = inspect.signature(_twspy.Server).parameters
    for name, default in DEFAULTS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default
        assert type(parameters[name].default) is type(default)
    make(**DEFAULTS)


def test_every_option_is_tested_and_documented() -> None:
    parameters = set(inspect.signature(_twspy.Server).parameters)
    others = {'sock', 'protocols', 'extensions', 'trusted_origins'}
    others |= {'locations', 'auth', 'compression'}
    assert parameters - others == set(DEFAULTS) == set(SIZES) | set(TIMES)
    lines = inspect.getdoc(twspy.Server)
    assert lines is not None
    first = {line.split()[0] for line in lines.splitlines() if line}
    assert set(DEFAULTS) <= first


def test_options_are_named() -> None:
    with pytest.raises(TypeError, match='max_client'):
        make(max_client=1)
    with pytest.raises(TypeError, match='positional'):
        _twspy.Server(None, ())  # type: ignore[arg-type, call-arg]


# --- sizes and counts ---


@pytest.mark.parametrize('name', SIZES)
def test_sizes_taken(name: str) -> None:
    least, _ = SIZES[name]
    most = MOST[name]
    make(**{name: least})
    make(**{name: Index(least)})
    make(**{name: most})


@pytest.mark.parametrize('name', OR_NONE)
def test_no_size(name: str) -> None:
    make(**{name: None})


@pytest.mark.parametrize('name', SIZES)
def test_sizes_below_the_least(name: str) -> None:
    least, expected = SIZES[name]
    for value in (least - 1, -5, -sys.maxsize - 1):
        assert (
            refusal(ValueError, **{name: value})
            == f'{name} is {value}, expected {expected}'
        )
    assert (
        refusal(ValueError, **{name: Index(least - 1)})
        == f'{name} is {least - 1}, expected {expected}'
    )


@pytest.mark.parametrize('name', ['max_header_lines', 'low_water'])
def test_sizes_above_the_most(name: str) -> None:
    _, expected = SIZES[name]
    for value in (MOST[name] + 1, sys.maxsize):
        assert (
            refusal(ValueError, **{name: value})
            == f'{name} is {value}, expected {expected}'
        )


# The last has more digits than Python shows of an int.
@pytest.mark.parametrize(
    'value', [sys.maxsize + 1, 10**30, 10**5000], ids=['64', '100', 'digits']
)
@pytest.mark.parametrize('name', SIZES)
def test_sizes_beyond_all_bounds(name: str, value: int) -> None:
    least, expected = SIZES[name]
    bounded = expected.replace(
        f'of at least {least}', f'from {least} to {sys.maxsize}'
    )
    assert (
        refusal(ValueError, **{name: value})
        == f'{name} is more than {sys.maxsize}, expected {bounded}'
    )
    assert (
        refusal(ValueError, **{name: -value - 1})
        == f'{name} is less than {-sys.maxsize - 1}, expected {expected}'
    )


@pytest.mark.parametrize(
    'value', [True, False, 2.0, math.nan, '2', b'2', [], object()]
)
@pytest.mark.parametrize('name', SIZES)
def test_sizes_that_are_no_int(name: str, value: object) -> None:
    _, expected = SIZES[name]
    assert (
        refusal(TypeError, **{name: value})
        == f'{name} is {type(value).__name__}, expected {expected}'
    )


@pytest.mark.parametrize('name', sorted(set(SIZES) - set(OR_NONE)))
def test_sizes_that_must_be_there(name: str) -> None:
    _, expected = SIZES[name]
    assert (
        refusal(TypeError, **{name: None})
        == f'{name} is NoneType, expected {expected}'
    )


@pytest.mark.parametrize('name', [*SIZES, *TIMES])
def test_an_error_of_the_number_comes_through(name: str) -> None:
    assert 'no number today' in refusal(LookupError, **{name: Broken()})


def test_low_water_is_below_the_high_one() -> None:
    make(max_queue=1000, low_water=999)
    make(max_queue=1, low_water=0)
    for queue in (1, 1000):
        assert refusal(ValueError, max_queue=queue, low_water=queue) == (
            f'low_water is {queue}, expected an int from 0 to {queue - 1} or '
            'None for a quarter of max_queue'
        )


def test_the_low_water_follows_the_given_queue() -> None:
    assert 'low_water is 5000,' in refusal(
        ValueError, max_queue=4000, low_water=5000
    )
    make(max_queue=1 << 30, low_water=1 << 29)


# --- times ---


@pytest.mark.parametrize('name', TIMES)
def test_times_taken(name: str) -> None:
    for value in (None, 1, 0.5, 5e-324, 1e9, 1e300, math.inf, 10**5000):
        make(**{name: value})
    if TIMES[name]:
        for value in (0, 0.0, -0.0):
            make(**{name: value})


@pytest.mark.parametrize('name', TIMES)
def test_times_that_are_none(name: str) -> None:
    expected = 'of at least 0' if TIMES[name] else 'above 0'
    values: list[tuple[float, str]] = [
        (-1, '-1.0'),
        (-0.25, '-0.25'),
        (-5e-324, '-5e-324'),
        (-math.inf, '-inf'),
        (math.nan, 'nan'),
        (-(10**400), '-inf'),
        (-(10**5000), '-inf'),
    ]
    if not TIMES[name]:
        values += [(0, '0.0'), (0.0, '0.0'), (-0.0, '-0.0')]
    for value, shown in values:
        assert (
            refusal(ValueError, **{name: value})
            == f'{name} is {shown}, expected seconds {expected} or None'
        )


@pytest.mark.parametrize('value', [True, False, '1', b'1', [], 1j])
@pytest.mark.parametrize('name', TIMES)
def test_times_that_are_no_number(name: str, value: object) -> None:
    assert refusal(TypeError, **{name: value}) == (
        f'{name} is {type(value).__name__}, expected a number of seconds or '
        'None'
    )


@pytest.mark.parametrize(
    'value', [math.inf, 1e300, 10**400], ids=['inf', 'float', 'int']
)
def test_huge_times_are_no_limit(value: float) -> None:
    with twspy.Server(HERE, open_timeout=value) as server:
        peer = RawPeer.open(server.address)
        with peer.sock:
            time.sleep(0.1)
            peer.send(request())
            assert peer.read_head()[0] == 101


# --- the head of a request ---


def status_of(address: Any, head: bytes) -> int:
    peer = RawPeer.open(address)
    with peer.sock:
        peer.send(head)
        status, _ = peer.read_head()
    return status


@pytest.mark.parametrize('size', [200, 16384, 100_000])
def test_max_head_size(size: int) -> None:
    options = {} if size == 16384 else {'max_head_size': size}
    room = size - len(request(X_Filler=''))
    with twspy.Server(HERE, **options) as server:
        for length, status in ((room, 101), (room + 1, 431)):
            head = request(X_Filler='x' * length)
            assert len(head) == size + length - room
            assert status_of(server.address, head) == status


@pytest.mark.parametrize('most', [5, 128, 256])
def test_max_header_lines(most: int) -> None:
    options = {} if most == 128 else {'max_header_lines': most}
    with twspy.Server(HERE, **options) as server:
        for count, status in ((most, 101), (most + 1, 431)):
            fields = {f'X-{i}': '' for i in range(count - 5)}
            head = request(**fields)
            assert head.count(b'\r\n') == count + 2
            assert status_of(server.address, head) == status
