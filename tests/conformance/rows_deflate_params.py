"""Parameters of permessage-deflate (RFC 7692 section 7.1): what our server
answers to offers, and what our client takes for an answer. And how lists of
extensions are read (RFC 6455 section 9.1)."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.compressed import DEFLATE, MESSAGE, read_message, small
from conformance.opening import (
    Asked,
    answer_row,
    ask,
    opened,
    refused,
    rejected,
    reply,
    request_row,
    welcomed,
)
from conformance.roles import End
from conformance.script import Variants
from conformance.table import WHOLE
from rawpeer import TEXT, read_request
from zlibends import Deflater, Inflater

from twspy import DeflateMessage

BITS = range(8, 16)
SN, CN = 'server_no_context_takeover', 'client_no_context_takeover'
SB, CB = 'server_max_window_bits', 'client_max_window_bits'
TALK = ['Hello ' * 100, 'Hello ' * 100, 'x' * 5000, 'Hello ' * 900]


def said(*params: str) -> str:
    return '; '.join((MESSAGE, *params))


def offer(*elements: str) -> bytes:
    return ask(f'+Sec-WebSocket-Extensions: {", ".join(elements)}')


def offers(*fields: str) -> bytes:
    return ask(*(f'+Sec-WebSocket-Extensions: {text}' for text in fields))


def answer(*params: str) -> bytes:
    return reply(f'+Sec-WebSocket-Extensions: {said(*params)}')


def read(text: str) -> tuple[str, dict[str, str | None]]:
    """An element, which our end writes without quotes."""
    name, *words = text.split('; ')
    params: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition('=')
        assert key not in params
        params[key] = value if equals else None
    return name, params


# ---------------------------------------------------------- what is answered


@dataclass(frozen=True)
class Agreed:
    """The answer is one to this offer (RFC 7692 section 7.1), and the
    messages are as it says."""

    params: dict[str, str | None]

    def __call__(self, end: End) -> None:
        status, head = end.peer.read_head()
        assert status == 101, end.peer.buffer
        name, got = read(head['sec-websocket-extensions'])
        offered = self.params
        assert name == MESSAGE
        assert set(got) <= {SN, CN, SB, CB}
        assert all(got[flag] is None for flag in (SN, CN) if flag in got)
        # 7.1.1.1: what a client asks for is to be in the answer.
        assert SN in got or SN not in offered
        # 7.1.2.1: so is this, with the same value or a smaller one.
        ours = int(got.get(SB) or 15)
        assert got.get(SB, '15') in {str(n) for n in BITS}
        assert SB not in offered or (
            SB in got and ours <= int(offered[SB] or 0)
        )
        # 7.1.2.2: only where it is offered, at most as large.
        theirs = int(got.get(CB) or 15)
        assert got.get(CB, '15') in {str(n) for n in BITS}
        assert CB not in got or CB in offered
        assert theirs <= int(offered.get(CB) or 15)
        deflate = Deflater(theirs, CN not in got)
        inflate = Inflater(ours, SN not in got)
        for message in TALK:
            data = message.encode()
            frames = small(deflate(data), TEXT)
            end.peer.send(b''.join(one.pack(end.role) for one in frames))
            assert read_message(end, inflate) == (TEXT, data)


def agreed(*given: dict[str, str | None], prefix: str = '') -> Variants:
    """Each is offered alone."""
    return Variants(
        tuple(
            Asked(
                ask(
                    '+Sec-WebSocket-Extensions: '
                    + prefix
                    + said(
                        *(
                            key if value is None else f'{key}={value}'
                            for key, value in params.items()
                        )
                    )
                ),
                Agreed(params),
            )
            for params in given
        )
    )


FLAGS: list[dict[str, str | None]] = [
    {},
    {SN: None},
    {CN: None},
    {SN: None, CN: None},
]
WANTED = [
    *((str(n), DeflateMessage(server_max_window_bits=n)) for n in BITS),
    *((f'c{n}', DeflateMessage(client_max_window_bits=n)) for n in BITS),
    ('x', DeflateMessage(server_no_context_takeover=True)),
    ('cx', DeflateMessage(client_no_context_takeover=True)),
    ('shared', DeflateMessage(shared=True)),
    ('any', DeflateMessage()),
]
OFFERS = [
    request_row(
        'offer-flags',
        'RFC 7692 7.1.1',
        'no_context_takeover is agreed on as it is asked for',
        agreed(*FLAGS),
        options=DEFLATE,
    ),
    request_row(
        'offer-server-bits',
        'RFC 7692 7.1.2.1',
        'server_max_window_bits of 8 to 15',
        agreed(*({SB: str(n)} | flags for n in BITS for flags in FLAGS)),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-client-bits',
        'RFC 7692 7.1.2.2',
        'client_max_window_bits of 8 to 15, or without a value',
        agreed({CB: None}, *({CB: str(n)} for n in BITS)),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-all',
        'RFC 7692 7.1',
        'all of them, in any order',
        agreed(
            {SN: None, CN: None, SB: '10', CB: '11'},
            {CB: None, SB: '10', CN: None, SN: None},
            {CB: '8', SB: '8'},
            {SB: '15', SN: None, CB: '15'},
        ),
        options=DEFLATE,
    ),
    *(
        request_row(
            f'offer-to-{name}',
            'RFC 7692 7.1',
            f'a server with wishes of its own keeps to offers: {wish!r}',
            agreed(
                {},
                {SN: None},
                {CN: None},
                {CB: None},
                {SB: '9'},
                {SB: '12', CB: None},
                {SB: '15', CB: '15', CN: None},
                {CB: '9'},
            ),
            options={'compression': wish},
            splits=(WHOLE,),
        )
        for name, wish in WANTED
    ),
    request_row(
        'offer-quoted',
        '9.1',
        'a value may be quoted',
        welcomed(
            offer(said(f'{SB}="10"')),
            offer(said(f'{SB} = "10"')),
            offer(said(f'{SB}="1\\0"')),
            offer(said(f'{SB}="\\1\\0"')),
            extensions=said(f'{SB}=10'),
        ),
        options=DEFLATE,
    ),
    request_row(
        'offer-white-space',
        '9.1',
        'white space between words says nothing',
        welcomed(
            offer(f'{MESSAGE} ;{SB}=10'),
            offer(f'\t{MESSAGE}\t;\t{SB}\t=\t10\t'),
            offer(f',, {MESSAGE};{SB}=10 , ,'),
            extensions=said(f'{SB}=10'),
        ),
        options=DEFLATE,
    ),
]

WRONG = [
    *(f'{SB}={value}' for value in ('0', '7', '16', '-9', '+12', '08', '1e1')),
    *(f'{SB}={value}' for value in ('012', '100', '4294967305', '0x9', 'x')),
    *(f'{SB}="{value}"' for value in ('7', '16', '08', '+9')),
    *(f'{CB}={value}' for value in ('0', '7', '16', '+12', '08', 'x', '150')),
    SB,
    f'{SN}=1',
    f'{SN}=true',
    f'{CN}=x',
    f'{SN}="x"',
    f'{SN}; {SN}',
    f'{CN}; {CN}',
    f'{SB}=10; {SB}=10',
    f'{SB}=10; {SB}=11',
    f'{CB}; {CB}',
    f'{CB}; {CB}=10',
    'unknown',
    f'{SN}; unknown=1',
    'constructor',
    '__proto__',
    SB.upper() + '=10',
    f'{SN}_',
    f'x{SN}',
    'max_window_bits=10',
    'no_context_takeover',
]
DECLINED = [
    request_row(
        'offer-declined',
        'RFC 7692 7.1',
        'an offer with a parameter that is unknown, wrong or there twice is '
        'declined',
        welcomed(*(offer(said(params)) for params in WRONG)),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-fallback',
        'RFC 7692 7.1',
        'and the next one is looked at',
        welcomed(
            *(offer(said(params), said(f'{SB}=10')) for params in WRONG),
            offer('x-unknown; a=b', MESSAGE.upper(), said(f'{SB}=10')),
            offers(said('unknown'), said(f'{SB}=10')),
            offers('', said(f'{SB}=10'), ','),
            offer(said(f'{SB}=10'), said(f'{SB}=9'), said(SN)),
            offers(said(f'{SB}=10'), said(f'{SB}=9')),
            extensions=said(f'{SB}=10'),
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-unknown',
        '9.1',
        'extensions that are not known are left out',
        welcomed(
            offer('x-unknown'),
            offer(MESSAGE + '2'),
            offer('x' + MESSAGE),
            offer('Permessage-Deflate'),
            offer('permessage-bzip2; a="b"; c, x'),
            offer(*[f'x-{n}' for n in range(1000)]),
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-not-spoken',
        '9.1',
        'a server without extensions agrees on none',
        welcomed(offer(MESSAGE), offer(said(f'{SB}=10'), 'x')),
    ),
    request_row(
        'offer-too-many',
        '9.1',
        'of a flood of offers only some are looked at',
        welcomed(offer(*['a'] * 5000, said()), offer(*[said('a')] * 700)),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    request_row(
        'offer-empty',
        'RFC 9110 5.6.1',
        'a list that is empty offers nothing',
        welcomed(offers(''), offers(','), offers(' ,\t,'), offers('', ',')),
        options=DEFLATE,
    ),
    request_row(
        'offer-empty-unasked',
        'RFC 9110 5.6.1',
        'of a server without extensions, too',
        welcomed(offers(''), offers(','), offers('', '')),
    ),
    *(
        request_row(
            f'offer-junk{name}',
            '9.1',
            'a list that is none is 400',
            refused(
                400,
                *(
                    offers(text)
                    for text in (
                        ';',
                        '=',
                        'a;',
                        'a; ;b',
                        'a; b=',
                        'a; =b',
                        'a; b=c=d',
                        'a; b=c d',
                        'a b',
                        '"a"',
                        'a; "b"',
                        'a; b="',
                        'a; b="c',
                        'a; b="c\\"',
                        'a; b=""',
                        'a; b="c d"',
                        'a; b="c,d"',
                        'a; b="c"d',
                        'a; b=c"d"',
                        'a; b="\\"',
                        'a; b=(c)',
                        'a/b',
                        'a@b',
                        'a\xe9',
                        'a; b=\xff',
                        'a, b; c=',
                        MESSAGE + '; ' + SB + '=',
                        MESSAGE + '; ' + SB + '=""',
                        MESSAGE + ';',
                    )
                ),
                offers(MESSAGE, '='),
                offers('"' * 4001),
                offers('a; b="' + '\\' * 5000),
            ),
            splits=(WHOLE,),
            **options,
        )
        for name, options in (('', {'options': DEFLATE}), ('-unasked', {}))
    ),
]

# ------------------------------------------------------- what a client takes

EVERY = DeflateMessage(server_max_window_bits=12, client_max_window_bits=11)
ALONE = DeflateMessage(
    server_no_context_takeover=True, client_no_context_takeover=True
)
SHY = DeflateMessage(client_max_window_bits=None)
ONE = (MESSAGE,)
# Good of an offer, wrong in an answer: it has to have a value there.
WRONG_ANSWERS = [*WRONG, CB]


def our_offer(end: End) -> None:
    end.connect()
    _, head = read_request(end.peer)
    assert head['sec-websocket-extensions'] == ', '.join(
        (
            said(SN, CN, CB),
            said(f'{SB}=12', f'{CB}=11'),
            said(),
        )
    )


ANSWERS = [
    answer_row(
        'answer-deflate-offer',
        'RFC 7692 7.1',
        'what a client offers, the best first',
        our_offer,
        options={'compression': (ALONE, EVERY, SHY)},
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate',
        'RFC 7692 7.1',
        'a server may say of itself what was not asked for, and limit us',
        opened(
            answer(),
            answer(SN),
            answer(CN),
            answer(SN, CN),
            answer(CN, SN, f'{SB}=8', f'{CB}=8'),
            *(answer(f'{SB}={n}') for n in BITS),
            *(answer(f'{CB}={n}') for n in BITS),
            answer(f'{SB}="12"'),
            answer(f'{CB} = "1\\2"'),
            extensions=ONE,
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-none',
        '9.1',
        'a server may agree on nothing',
        opened(
            reply(),
            reply('+Sec-WebSocket-Extensions:'),
            reply('+Sec-WebSocket-Extensions: ,\t,'),
        ),
        options=DEFLATE,
    ),
    answer_row(
        'answer-deflate-wrong',
        'RFC 7692 7.1',
        'a parameter that is unknown, wrong or there twice fails the '
        'connection',
        rejected(
            101, 'permessage-deflate', *(answer(p) for p in WRONG_ANSWERS)
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-bits-asked',
        'RFC 7692 7.1.2.1',
        'what was asked for is answered, with a window as small',
        opened(
            *(answer(f'{SB}={n}') for n in range(8, 13)),
            *(answer(f'{SB}=12', f'{CB}={n}') for n in BITS),
            answer(SN, CN, f'{SB}=12', f'{CB}=11'),
            extensions=ONE,
        ),
        options={'compression': EVERY},
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-bits-refused',
        'RFC 7692 7.1.2.1',
        'a larger one, or none, fails the connection',
        rejected(
            101,
            'permessage-deflate',
            answer(),
            answer(SN, CN),
            answer(f'{CB}=11'),
            *(answer(f'{SB}={n}') for n in range(13, 16)),
        ),
        options={'compression': EVERY},
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-alone',
        'RFC 7692 7.1.1.1',
        'server_no_context_takeover is answered where it was asked for',
        opened(answer(SN), answer(SN, CN), extensions=ONE),
        options={'compression': ALONE},
    ),
    answer_row(
        'answer-deflate-not-alone',
        'RFC 7692 7.1.1.1',
        'or the connection fails',
        rejected(101, 'permessage-deflate', answer(), answer(CN)),
        options={'compression': ALONE},
    ),
    answer_row(
        'answer-deflate-not-offered',
        'RFC 7692 7.1.2.2',
        'client_max_window_bits that was not offered fails the connection',
        rejected(101, CB, *(answer(f'{CB}={n}') for n in BITS)),
        options={'compression': SHY},
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-twice',
        '9.1',
        'an extension is agreed on once, and only one that was offered',
        rejected(
            101,
            '',
            *(
                reply(f'+Sec-WebSocket-Extensions: {value}')
                for value in (
                    f'{MESSAGE}, {MESSAGE}',
                    f'{MESSAGE}, {said(SN)}',
                    f'{MESSAGE}, x-unknown',
                    f'x-unknown, {MESSAGE}',
                    'deflate-frame',
                    'Permessage-Deflate',
                    MESSAGE + '2',
                    ', '.join([MESSAGE] * 500),
                )
            ),
            reply(
                f'+Sec-WebSocket-Extensions: {MESSAGE}',
                f'+Sec-WebSocket-Extensions: {MESSAGE}',
            ),
            reply(
                f'+Sec-WebSocket-Extensions: {MESSAGE}',
                '+Sec-WebSocket-Extensions:',
            ),
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-deflate-junk',
        '9.1',
        'a list that is none fails the connection',
        rejected(
            101,
            '',
            *(
                reply(f'+Sec-WebSocket-Extensions: {value}')
                for value in (
                    ';',
                    MESSAGE + ';',
                    MESSAGE + ' x',
                    said(f'{SB}='),
                    said(f'{SB}=""'),
                    said(f'{SB}="10'),
                    said(f'{SB}=1 0'),
                    f'"{MESSAGE}"',
                    MESSAGE + '\xff',
                )
            ),
        ),
        options=DEFLATE,
        splits=(WHOLE,),
    ),
]

ROWS = [*OFFERS, *DECLINED, *ANSWERS]
