"""Which extensions a connection uses: what is offered, and what is agreed on
(RFC 6455 section 9.1). Called by the C code, which reads and writes the
header fields."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .errors import HandshakeError
from .extensions import Extension, Template
from .http import Response

# The elements of Sec-WebSocket-Extensions, in order, unquoted.
Elements = Sequence[tuple[str, Sequence[tuple[str, str | None]]]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_RESERVED_OPCODES = frozenset((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))
_RSV = {'rsv1': 0x40, 'rsv2': 0x20, 'rsv3': 0x10}
_SHOWN = 100  # characters of a peer's text in a message


# --- options ---


def read_templates(given: object, compression: object) -> tuple[Template, ...]:
    """The options `extensions` and `compression`, as one tuple."""
    templates = _read_list(given, 'extensions')
    taken = {
        name for template in templates for name in _names(_make(template))
    }
    for template in _read_compression(compression):
        made = _make(template)
        # Its own settings, where the program has given it among the others.
        if taken.isdisjoint(_names(made)):
            templates.append(template)
    return tuple(templates)


def _read_compression(given: object) -> list[Template]:
    if given is None:
        return []
    if isinstance(given, str):
        if given != 'deflate':
            raise ValueError(
                f"compression is {given!r}, expected 'deflate', an Extension "
                'or None'
            )
        return [_deflate()]
    if _is_template(given):
        return _read_list((given,), 'compression')
    return _read_list(given, 'compression')


def _deflate() -> Template:
    # Whose module is the one that calls this, and imports it.
    from ._twspy import DeflateMessage

    return DeflateMessage()


def _read_list(given: object, option: str) -> list[Template]:
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        expected = 'an iterable of Extension'
        if option == 'compression':
            expected = f"'deflate', an Extension, {expected} or None"
        raise TypeError(
            f'{option} is {_describe(given)}, expected {expected}'
            f'{_advice(given, option)}'
        )
    templates: list[Template] = []
    for template in given:
        if not _is_template(template):
            raise TypeError(
                f'{option} has {_describe(template)}, expected instances or '
                f'subclasses of Extension{_advice(template, option)}'
            )
        claims_of(_make(template))
        templates.append(template)
    return templates


def _describe(given: object) -> str:
    if isinstance(given, type):
        return f'the class {given.__name__}'
    kind = type(given).__name__
    if _is_template(given):
        return f'one {kind}'
    return f'{given!r}'[:_SHOWN] if isinstance(given, (str, bytes)) else kind


def _advice(given: object, option: str) -> str:
    """What was meant, where that is known."""
    if isinstance(given, type) and _is_template(given):
        return f': write {option}=[{given.__name__}]'
    if _is_template(given):
        return f': write {option}=[{type(given).__name__}(...)]'
    if given == 'deflate':
        return ": write compression='deflate'"
    if isinstance(given, str) and option == 'extensions':
        return "; compression is asked for with compression='deflate'"
    return ''


def _is_template(given: object) -> bool:
    if isinstance(given, type):
        return issubclass(given, Extension)
    return isinstance(given, Extension)


def _make(template: Template) -> Extension:
    """An instance for one connection."""
    made: object = (
        template() if isinstance(template, type) else copy.copy(template)
    )
    if not isinstance(made, Extension) or made is template:
        raise TypeError(
            f'{template!r} gave {made!r} as the instance for a connection, '
            'expected a new Extension'
        )
    return made


# --- what an extension says of itself ---


def claims_of(extension: Extension) -> tuple[str, int, int, bool]:
    """Its name, its reserved bits, its opcodes (bit i for opcode i), and
    whether it works on whole messages."""
    name = extension.name
    known: tuple[object, ...] = (name, *_names(extension))
    for token in known:
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise ValueError(
                f'{type(extension).__name__} has the name {token!r}, expected '
                "a token such as 'x-rot13'"
            )
    rsv = 0
    for attribute, bit in _RSV.items():
        rsv |= bit if _flag(extension, attribute) else 0
    return (
        name,
        rsv,
        _opcodes(extension),
        _flag(extension, 'before_fragmentation'),
    )


def _names(extension: Extension) -> tuple[str, ...]:
    names = extension.names
    # What can be read once is empty for the first client.
    if isinstance(names, (str, Iterator)):
        raise TypeError(
            f'names of {type(extension).__name__} is a '
            f'{type(names).__name__}, expected a tuple of str'
        )
    return tuple(names) or (extension.name,)


def _flag(extension: Extension, attribute: str) -> bool:
    value = getattr(extension, attribute)
    if not isinstance(value, bool):
        raise TypeError(
            f'{attribute} of {type(extension).__name__} is {value!r}, '
            'expected a bool'
        )
    return value


def _opcodes(extension: Extension) -> int:
    bits = 0
    opcodes = extension.opcodes
    if isinstance(opcodes, Iterator):
        raise TypeError(
            f'opcodes of {type(extension).__name__} is a '
            f'{type(opcodes).__name__}, expected a tuple of int'
        )
    opcode: object
    for opcode in opcodes:
        if type(opcode) is not int or opcode not in _RESERVED_OPCODES:
            raise ValueError(
                f'opcodes of {type(extension).__name__} has {opcode!r}, '
                'expected reserved ones: ints of 3 to 7 and 11 to 15'
            )
        bits |= 1 << opcode
    return bits


def _conflict(extension: Extension, agreed: Sequence[Extension]) -> str | None:
    """Why it can't be used beside those that were agreed on before."""
    name, rsv, opcodes, _ = claims_of(extension)
    for other in agreed:
        other_name, other_rsv, other_opcodes, _ = claims_of(other)
        if name == other_name:
            return f'{name} is there twice'
        if rsv & other_rsv or opcodes & other_opcodes:
            return (
                f'{name} uses reserved bits or opcodes that {other_name} uses'
            )
    return None


# --- the client ---


def make_offer(
    templates: Sequence[Template],
) -> tuple[str, tuple[Extension, ...]]:
    """The value of Sec-WebSocket-Extensions, and the instances that stand
    behind it."""
    offered = tuple(_make(template) for template in templates)
    elements = [
        _format(extension, params)
        for extension in offered
        for params in _alternatives(extension)
    ]
    return ', '.join(elements), offered


def _alternatives(extension: Extension) -> list[Any]:
    offer: object = extension.offer()
    if isinstance(offer, Mapping):
        return [offer]
    if not isinstance(offer, Iterable) or isinstance(offer, (str, bytes)):
        raise TypeError(
            f'offer() of {extension.name} returned {type(offer).__name__}, '
            'expected a mapping of parameters, or a list of them'
        )
    return list(offer)


def judge_answer(
    offered: Sequence[Extension], answer: Elements, response: Response
) -> tuple[Extension, ...]:
    """What the server has agreed on; HandshakeError where it may not."""
    agreed: list[Extension] = []
    try:
        for name, pairs in answer:
            agreed.append(_accept(name, pairs, offered, agreed))
    except _RefusedError as reason:
        raise HandshakeError(
            f'the server answered with Sec-WebSocket-Extensions {reason}',
            response.status,
            response.headers,
            b'',
        ) from reason.__cause__
    return tuple(agreed)


class _RefusedError(Exception):
    """Why an element of an answer is not accepted."""


def _accept(
    name: str,
    pairs: Sequence[tuple[str, str | None]],
    offered: Sequence[Extension],
    agreed: Sequence[Extension],
) -> Extension:
    shown = repr(_join(name, pairs)[:_SHOWN])
    params = _read_params(pairs)
    if params is None:
        raise _RefusedError(f'{shown}, which has a parameter twice')
    candidates = [one for one in offered if one.name == name]
    if not candidates:
        raise _RefusedError(f'{shown}, which was not offered')
    free = [
        one for one in candidates if not any(one is other for other in agreed)
    ]
    failure: ValueError | None = None
    for extension in free:
        try:
            extension.accept(params)
        except ValueError as error:
            failure = error
            continue
        why = _conflict(extension, agreed) or _misplaced(extension, agreed)
        if why is not None:
            raise _RefusedError(f'{shown}: {why}')
        return extension
    if failure is None:
        raise _RefusedError(f'{shown}: {name} is there twice')
    # That may quote a value, which is as long as the server likes.
    reason = str(failure)[: 2 * _SHOWN]
    raise _RefusedError(f'{shown}: {reason}') from failure


def _misplaced(
    extension: Extension, agreed: Sequence[Extension]
) -> str | None:
    if agreed and _is_whole(extension) and not _is_whole(agreed[-1]):
        return (
            f'{extension.name} works on messages before they are cut into '
            f"frames, and so can't come behind {agreed[-1].name}"
        )
    return None


# --- the server ---


def judge_offers(
    templates: Sequence[Template], offers: Elements
) -> tuple[tuple[Extension, ...], str]:
    """What to agree on, and the value of the answer's field."""
    agreed: list[Extension] = []
    answers: list[str] = []
    free = list(templates)  # each may be agreed on once
    for name, pairs in offers:
        params = _read_params(pairs)
        if params is None:
            continue  # a parameter twice is nobody's offer
        for index, extension in _candidates(free, name):
            if _conflict(extension, agreed) is not None:
                continue
            answer = extension.negotiate(dict(params))
            # Which bits it uses may depend on the parameters.
            if answer is not None and _conflict(extension, agreed) is None:
                answers.append(_format(extension, answer, 'negotiate()'))
                agreed.append(extension)
                del free[index]
                break
    # A message is transformed before it is cut into frames.
    order = sorted(range(len(agreed)), key=lambda i: not _is_whole(agreed[i]))
    return (
        tuple(agreed[i] for i in order),
        ', '.join(answers[i] for i in order),
    )


def _candidates(
    templates: Sequence[Template], name: str
) -> Iterator[tuple[int, Extension]]:
    for index, template in enumerate(templates):
        extension: Any = _make(template)
        if name in _names(extension):
            if extension.name != name:
                extension.name = name
            yield index, extension


# --- both ---


def _is_whole(extension: Extension) -> bool:
    return claims_of(extension)[3]


def _read_params(
    pairs: Sequence[tuple[str, str | None]],
) -> dict[str, str | None] | None:
    """None where one comes twice."""
    params = dict(pairs)
    return params if len(params) == len(pairs) else None


def _format(
    extension: Extension, params: object, source: str = 'offer()'
) -> str:
    """An element of Sec-WebSocket-Extensions. A value that had to be quoted
    would be none (RFC 6455 section 9.1)."""
    if not isinstance(params, Mapping):
        raise TypeError(
            f'{source} of {extension.name} returned '
            f'{type(params).__name__}, expected a mapping of parameters'
        )
    pairs = []
    for name, value in params.items():
        if not isinstance(name, str):
            raise TypeError(
                f'{source} of {extension.name} returned the parameter '
                f'{name!r}, expected a str'
            )
        if type(value) is int:
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise TypeError(
                f'{source} of {extension.name} returned the parameter '
                f'{name!r} with {value!r}, expected a str, an int or None'
            )
        for text in (name, value):
            if text is not None and not _TOKEN.match(text):
                raise ValueError(
                    f'{source} of {extension.name} returned the parameter '
                    f'{name!r} with {value!r}, expected tokens (letters, '
                    "digits and !#$%&'*+-.^_`|~)"
                )
        pairs.append((name, value))
    return _join(extension.name, pairs)


def _join(name: str, pairs: Iterable[tuple[str, str | None]]) -> str:
    params = (
        key if value is None else f'{key}={value}' for key, value in pairs
    )
    return '; '.join((name, *params))
