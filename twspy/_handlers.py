"""What a server's class says wrong: handlers and options that don't exist."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import NoReturn

_HANDLERS = frozenset(
    (
        'onhandshake',
        'onopen',
        'onmessage',
        'onclose',
        'onping',
        'onpong',
        'onsent',
        'onerror',
        'onrequest',
    )
)

# What others call them.
_ELSEWHERE = {
    'onconnect': 'onopen',
    'onconnection': 'onopen',
    'onconnected': 'onopen',
    'ondisconnect': 'onclose',
    'ondisconnected': 'onclose',
    'onreceive': 'onmessage',
    'onrecv': 'onmessage',
    'ondata': 'onmessage',
}

# Options that are another's, or of other libraries.
_INSTEAD = {
    'workers': 'give it to run()',
    'loops': 'give it to run() or start()',
    'timeout': 'there are open_timeout, close_timeout, idle_timeout and more',
    'certfile': "write ssl_args={'certfile': ..., 'keyfile': ...}",
    'keyfile': "write ssl_args={'certfile': ..., 'keyfile': ...}",
    'cafile': "write ssl_args={'cafile': ...}",
    'ssl_context': 'the name is ssl',
    'origins': 'the name is trusted_origins',
    'host': "write (host, port), such as ('', 8000)",
    'port': "write (host, port), such as ('', 8000)",
}


def check_handlers(cls: type, base: type) -> list[tuple[str, str]]:
    """TypeError where a handler of `cls` is a coroutine function, which
    nobody would await; returns what looks like a handler, and the one that
    may be meant.

    base: the class whose handlers are overridden.
    """
    own = [one for one in cls.__mro__ if not issubclass(base, one)]
    methods = {
        name: value
        for one in reversed(own)
        for name, value in vars(one).items()
        if name.lower().startswith('on') and callable(value)
    }
    for name in _HANDLERS & methods.keys():
        if inspect.iscoroutinefunction(methods[name]):
            raise TypeError(
                f'{cls.__name__}.{name} is a coroutine function, expected a '
                'plain one: write def without async; handlers run on threads, '
                'and may wait'
            )
    return list(_find_misspelt(cls.__name__, methods))


def _find_misspelt(
    name_of: str, methods: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for name in sorted(set(methods) - _HANDLERS):
        plain = name.lower().replace('_', '')
        meant = _ELSEWHERE.get(plain)
        if meant is None:
            meant = _closest(plain, _HANDLERS, 0.85)
        # Who has the right one as well means something else by this one.
        if meant is not None and meant not in methods:
            yield f'{name_of}.{name}', meant


def refuse_option(
    function: str, options: Iterable[str], known: Iterable[str]
) -> None:
    """TypeError for the first option that is none of the known ones."""
    known = set(known)
    for option in options:
        if option not in known:
            _refuse(function, option, known)


def _refuse(function: str, option: str, known: Iterable[str]) -> NoReturn:
    meant = _closest(option, known, 0.6)
    advice = ''
    if option in _INSTEAD:
        advice = f': {_INSTEAD[option]}'
    elif option in _HANDLERS:
        advice = ': handlers are methods of a subclass'
    elif meant is not None:
        advice = f': did you mean {meant!r}?'
    raise TypeError(f'{function}() has no option {option!r}{advice}')


def _closest(name: str, known: Iterable[str], least: float) -> str | None:
    import difflib  # for errors only: a program starts sooner without

    found = difflib.get_close_matches(name, sorted(known), 1, least)
    return found[0] if found else None
