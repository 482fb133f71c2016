"""The end of the TCP connection, and failures (RFC 6455 sections 7.1.1, 7.1.5
and 7.1.7)."""

from __future__ import annotations

import time
from dataclasses import replace

from conformance.roles import End
from conformance.script import (
    Raw,
    binary,
    check_frame,
    close,
    fails,
    first,
    part,
    peer_ends,
    peer_resets,
    ping,
    script,
    sees,
    sees_failure,
    stream_ends,
    text,
    told,
    variants,
)
from conformance.table import CLIENT, JOINED, SERVER, WHOLE, Row

BRIEF = {'close_timeout': 0.3}


def server_ends_first(end: End) -> None:
    end.open()
    end.send(close(1000).pack(end.role))
    check_frame(end, end.peer.read_frame(), close(1000))
    end.peer.expect_end()
    # The client may then take its time.
    assert end.told().code == 1000


def client_waits(end: End) -> None:
    end.open()
    end.send(close(1000).pack(end.role))
    check_frame(end, end.peer.read_frame(), close(1000))
    waits_for_end(end)


def client_waits_having_closed(end: End) -> None:
    end.open()
    end.run(lambda: end.connection.close(1000))
    check_frame(end, end.peer.read_frame(), close(1000))
    end.send(close(1000).pack(end.role))
    waits_for_end(end)


def waits_for_end(end: End) -> None:
    began = time.monotonic()
    end.peer.expect_end()
    waited = time.monotonic() - began
    assert waited > 0.2, f'the client ended first, after {waited:.3f} s'
    assert end.told().code == 1000


ROWS = [
    Row(
        'tcp-server-first',
        '7.1.1',
        'the server ends the TCP connection',
        server_ends_first,
        roles=(SERVER,),
        why='the client waits',
        splits=(WHOLE,),
    ),
    *(
        Row(
            name,
            '7.1.1',
            'the client waits until the server has, but not without a limit',
            run,
            roles=(CLIENT,),
            why='the server does not wait',
            splits=(WHOLE,),
            options=BRIEF,
        )
        for name, run in (
            ('tcp-client-waits', client_waits),
            ('tcp-client-waits-ours', client_waits_having_closed),
        )
    ),
    Row(
        'tcp-end',
        '7.1.5',
        'a stream that ends without a Close frame: 1006',
        variants(
            script(peer_ends, stream_ends, told(1006, by='network')),
            script(
                text('before'),
                sees(text('before')),
                peer_ends,
                stream_ends,
                told(1006, by='network'),
            ),
            script(
                text('before'),
                peer_ends,
                sees(text('before')),
                stream_ends,
                told(1006, by='network'),
            ),
            script(
                first('frag'),
                peer_ends,
                stream_ends,
                told(1006, by='network'),
            ),
        ),
    ),
    Row(
        'tcp-end-in-frame',
        '7.1.5',
        'also wherever that is in a frame, of which nothing counts',
        variants(
            *(
                script(
                    replace(cut, only=size),
                    peer_ends,
                    stream_ends,
                    told(1006, by='network'),
                )
                for cut in (
                    text('Hello'),
                    binary(b'*' * 126),
                    ping('Hello'),
                    close(1000, 'Hello'),
                    binary(b'*' * 65536),
                )
                for size in (1, 2, 3, 4, 5, 6, 7, 10, 100)
                # That is less than the shorter form, which has no mask.
                if size < len(cut.payload) + 2
            )
        ),
        splits=(WHOLE, JOINED),
    ),
    Row(
        'tcp-reset',
        '7.1.5',
        'and a stream that ends by a reset',
        variants(
            script(peer_resets, told(1006, by='network')),
            script(
                text('frag', only=4), peer_resets, told(1006, by='network')
            ),
            script(first('frag'), peer_resets, told(1006, by='network')),
        ),
        splits=(WHOLE,),
    ),
    Row(
        'fail-no-answer',
        '7.1.7',
        'after a failure the peer is not waited for without a limit',
        variants(
            script(
                text(wrong_mask=True),
                sees_failure(1002),
                stream_ends,
                told(1002, by='limit'),
            ),
        ),
        splits=(WHOLE,),
        options=BRIEF,
    ),
    Row(
        'fail-peer-goes-on',
        '7.1.7',
        'what the peer still sends does not cost it the Close frame',
        variants(
            script(text(wrong_mask=True), Raw(b'*' * 60_000), fails(1002)),
            script(
                text(wrong_mask=True),
                *[text('more'), ping('more'), close(1000)] * 20,
                fails(1002),
            ),
        ),
        splits=(WHOLE, JOINED),
    ),
    Row(
        'fail-within-message',
        '7.1.7',
        'a failure ends a message that is not complete; none of it counts',
        script(first('frag'), part('ment'), ping(rsv=1), fails(1002)),
    ),
]
