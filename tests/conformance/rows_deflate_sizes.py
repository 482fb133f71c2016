"""Compressed messages of every size, kind and setting (RFC 7692): the cases
of sections 12 and 13 of the Autobahn test suite."""

from __future__ import annotations

from conformance.compressed import DEFLATE, MESSAGE, Exchange, Taken, Terms
from conformance.roles import End
from conformance.table import CLIENT, SERVER, WHOLE, Row

from twspy import DeflateMessage

# Bytes of a message, and of the frames it is cut into (0: one).
SIZES = (
    *((size, 0) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768)),
    *((size, 0) for size in (65536, 131072)),
    *((size, 256) for size in (8192, 16384, 32768, 65536, 131072)),
    *((131072, size) for size in (1024, 4096, 32768)),
)
KINDS = ('json', 'bitmap', 'prose', 'html', 'pdf')
# Of section 13: what the client asks of the server, the best first.
ASKED: tuple[tuple[tuple[bool, int | None], ...], ...] = (
    ((False, None),),
    ((True, None),),
    ((False, 9),),
    ((False, 15),),
    ((True, 9),),
    ((True, 15),),
    ((True, 9), (True, None), (False, None)),
)


def messages(kind: str, size: int) -> list[Taken]:
    """Two at least, as the second refers to the first."""
    count = 2 if size > 16384 else 4
    return [Taken(kind, size, number) for number in range(count)]


class Asked(Exchange):
    """The client of an exchange asks the server for a window, or to begin
    each message anew; the server does as it is asked, and so does ours."""

    def __call__(self, end: End) -> None:
        terms = self.terms
        if end.role == CLIENT:
            # What our client asks for is what the peer keeps to.
            terms = Terms(
                their_bits=terms.our_bits, their_takeover=terms.our_takeover
            )
        Exchange(terms, self.messages, self.size, self.options, self.offers)(
            end
        )


def asked(
    wishes: tuple[tuple[bool, int | None], ...],
) -> dict[str, dict[str, object]]:
    asks = tuple(
        DeflateMessage(
            server_no_context_takeover=alone, server_max_window_bits=bits
        )
        for alone, bits in wishes
    )
    return {SERVER: DEFLATE, CLIENT: {'compression': asks}}


def offers(wishes: tuple[tuple[bool, int | None], ...]) -> str:
    return ', '.join(
        MESSAGE
        + ('; server_no_context_takeover' if alone else '')
        + (f'; server_max_window_bits={bits}' if bits else '')
        for alone, bits in wishes
    )


KINDS_OF_DATA = [
    Row(
        f'deflate-{kind}-{size}' + (f'-by-{part}' if part else ''),
        'RFC 7692 7.2',
        f'{size} bytes of {kind}'
        + (f', in frames of {part} bytes' if part else ''),
        Exchange(Terms(), messages(kind, size), part),
        splits=(WHOLE,),
        autobahn=f'12.{section}.{case}',
        options=DEFLATE,
    )
    for section, kind in enumerate(KINDS, 1)
    for case, (size, part) in enumerate(SIZES, 1)
]

SETTINGS = [
    Row(
        f'deflate-asked-{section}-{size}' + (f'-by-{part}' if part else ''),
        'RFC 7692 7.1',
        f'asked for {offers(wishes)}: {size} bytes'
        + (f', in frames of {part} bytes' if part else ''),
        Asked(
            Terms(our_bits=wishes[0][1] or 15, our_takeover=not wishes[0][0]),
            messages('json', size),
            part,
            asked(wishes),
            offers(wishes),
        ),
        splits=(WHOLE,),
        autobahn=f'13.{section}.{case}',
    )
    for section, wishes in enumerate(ASKED, 1)
    for case, (size, part) in enumerate(SIZES, 1)
]

ROWS = [*KINDS_OF_DATA, *SETTINGS]
